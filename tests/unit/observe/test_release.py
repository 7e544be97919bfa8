"""The release that an instance tells."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from slowpool.observe import release as module
from slowpool.observe.release import release


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release, as a package."""
    monkeypatch.setattr(metadata, "version", {"slowpool": "7.7.7"}.__getitem__)


def test_the_release_of_a_checkout_is_that_of_its_project_file() -> None:
    version = re.findall(r'^version = "(.+)"', module.PROJECT.read_text(), re.MULTILINE)
    assert [release.__wrapped__()] == version


@pytest.mark.parametrize(
    "content", ['[project]\nname = "shop"\nversion = "9.9.9"\n', "[tool.poetry]\n", "[project", None]
)
def test_where_it_is_installed_in_the_folder_of_another_project_it_is_that_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "pyproject.toml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(module, "PROJECT", file)
    assert release.__wrapped__() == "7.7.7"
