"""The files that deploy/generate.py writes from the settings."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import generate
from deploy.generate import NGINX, ON_SEVERAL_MACHINES, generated, with_block
from slowpool.config import Config
from tests.support.basics import DEFAULTS, ROOT

FILES = [
    ".env.example",
    "deploy/README.md",
    "deploy/kubernetes/base/settings.env",
    "deploy/swarm/stack.yml",
    "docker-compose.yml",
    "nginx/settings.sh",
]


@pytest.mark.parametrize("path", FILES)
def test_a_generated_file_is_not_stale(path: str) -> None:
    assert (ROOT / path).read_text() == generated()[path], f"{path} is stale: run make generate"


def test_every_generated_file_is_checked() -> None:
    assert list(generated()) == FILES


def test_every_section_begins_with_a_setting_and_the_first_setting_begins_one() -> None:
    assert generate.SECTIONS.keys() <= Config.model_fields.keys()
    assert next(iter(generate.SECTIONS)) == next(iter(Config.model_fields))
    assert list(generate.SECTIONS) == [field for field in Config.model_fields if field in generate.SECTIONS]


def test_every_setting_of_nginx_is_a_setting() -> None:
    assert DEFAULTS.keys() >= NGINX


@pytest.mark.usefixtures("nothing_set")
def test_the_example_env_file_uncommented_changes_nothing(tmp_path: Path) -> None:
    lines = re.findall(r"^# ([A-Z][A-Z_]*=.*)$", generated()[".env.example"], re.MULTILINE)
    names = {line.partition("=")[0] for line in lines}
    assert DEFAULTS.keys() == {name for name in names if not name.endswith("_IMAGE")}
    file = tmp_path / ".env"
    file.write_text("\n".join(lines))
    assert Config(_env_file=file) == Config.model_construct()


def test_the_example_env_file_is_only_comments() -> None:
    assert all(line.startswith("#") for line in generated()[".env.example"].splitlines() if line)


PRINT_DEFAULTS = """
set -efu
printed() { printf '%s=%s\\n' "$1" "$2"; }
for kind in integer number text file choice prefixes; do
    eval "$kind() { printed \\"\\$@\\"; }"
done
"""


def test_the_settings_of_nginx_can_be_read_by_a_shell() -> None:
    done = subprocess.run(
        ["sh", "-c", PRINT_DEFAULTS + generated()["nginx/settings.sh"]],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found.keys() == NGINX
    values = Config.model_validate({name.lower(): value for name, value in found.items()})
    assert values == Config.model_construct()


def test_the_generated_names_of_yaml_have_no_value() -> None:
    for path in ("docker-compose.yml", "deploy/swarm/stack.yml"):
        others = {name for name in ON_SEVERAL_MACHINES if "swarm" in path}
        passed = yaml.safe_load((ROOT / path).read_text())["x-instances"]["environment"]
        assert {name for name, value in passed.items() if value is None} >= DEFAULTS.keys() - NGINX - others


def test_a_file_without_a_block_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"pyproject\.toml has 0 blocks"):
        with_block("pyproject.toml", [])


def test_only_stale_files_are_written_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path, text in generated().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    compose = tmp_path / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("    SLOW_QUEUE:\n", ""))
    (tmp_path / ".env.example").unlink()
    generate.main()
    assert capsys.readouterr().out == ".env.example\ndocker-compose.yml\n"
    assert "    SLOW_QUEUE:\n" in compose.read_text()
    generate.main()
    assert capsys.readouterr().out == ""
