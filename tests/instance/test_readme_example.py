"""The example applications of the documents answer as the documents say."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.basics import ROOT
from tests.support.documents import fences, section
from tests.support.process import Instance

EXAMPLES = {
    "README.md": section(ROOT / "README.md", "Your application"),
    "app/README.md": section(ROOT / "app" / "README.md", "Your application"),
}

each_example = pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES.keys())


@each_example
def test_the_example_application_answers_as_the_text_says(text: str, tmp_path: Path) -> None:
    (app,) = set(re.findall(r"\bAPP=(shop[\w.]*:\w+)", text))
    commands = list(example_commands(text))
    assert commands
    with Instance(path=put_beside_app(text, tmp_path), APP=app) as instance:
        for url, expected in commands:
            parts = urlsplit(url)
            assert parts.netloc == "localhost:8080"
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            response = instance.get(target)
            assert response.status == 200, response
            assert response.text.strip() == expected.strip()


@each_example
def test_the_example_application_passes_the_projects_own_checks(text: str, tmp_path: Path) -> None:
    project = put_beside_app(text, tmp_path)
    shutil.copy(ROOT / "pyproject.toml", project)
    for name, _ in example_files(text):
        ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--quiet", name]
        done = subprocess.run(ruff, cwd=project, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def put_beside_app(text: str, folder: Path) -> Path:
    """A copy of the project with the example put beside ``app/``."""
    project = folder / "project"
    shutil.copytree(ROOT / "app", project / "app", ignore=shutil.ignore_patterns("__pycache__"))
    files = list(example_files(text))
    assert files
    for name, content in files:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return project


def example_files(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file of the example application."""
    for info, content in fences(text):
        if match := re.search(r'title="([^"]+)"', info):
            yield match[1], content


def example_commands(text: str) -> Iterator[tuple[str, str]]:
    """The URL of each curl command of the example, and the output that the text shows."""
    for info, content in fences(text):
        if not info.startswith("console"):
            continue
        for command in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
            line, _, output = command.partition("\n")
            if match := re.match(r"curl -s '([^']+)'$", line.strip()):
                yield match[1], output
