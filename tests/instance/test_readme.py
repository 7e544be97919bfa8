"""The README says what the code does."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from slowpool.config import Config
from tests.support.basics import DEFAULTS, ROOT
from tests.support.fault_schedule import guarantees
from tests.support.process import Instance

README = ROOT / "README.md"

pytestmark = pytest.mark.usefixtures("nothing_set")


def test_the_settings_table_is_that_of_the_config() -> None:
    rows = dict(settings_rows())
    assert rows.keys() == DEFAULTS.keys()
    for name, default in rows.items():
        value = Config.model_validate({name.lower(): default}) if default else Config.model_construct()
        assert getattr(value, name.lower()) == DEFAULTS[name], f"{name}: {default!r}"


def test_the_tree_is_that_of_the_repository() -> None:
    paths = list(tree_paths())
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing
    shown = {path.parts[0] for path in paths}
    assert {"app", "deploy", "nginx", "tests"} <= shown
    rooms = {file.parent.relative_to(ROOT) for file in (ROOT / "app").glob("*/*/__init__.py")}
    assert rooms <= set(paths)


def test_the_table_of_guarantees_is_that_of_the_fault_schedule() -> None:
    figures = json.loads((ROOT / "tests" / "bench" / "FAULTS.json").read_text())
    on_swarm = {"swarm": figures.pop("swarm")}
    assert guarantees(figures) in section("nothing is lost")
    assert guarantees(on_swarm) in (ROOT / "deploy" / "README.md").read_text()
    assert sum(row["requests"] for rows in figures.values() for row in rows) >= 100_000


def test_each_link_within_the_repository_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", README.read_text()):
        if not urlsplit(target).scheme:
            assert (ROOT / target).exists(), target


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the project with the README's example application put beside ``app/``."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "app", project / "app", ignore=shutil.ignore_patterns("__pycache__"))
    files = list(example_files())
    assert files
    for name, text in files:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return project


def test_the_example_application_answers_as_the_readme_says(shop: Path) -> None:
    (routes,) = set(re.findall(r"\bROUTES=([\w.]+)", own_application()))
    commands = list(example_commands())
    assert commands
    with Instance(path=shop, ROUTES=routes) as instance:
        for url, expected in commands:
            parts = urlsplit(url)
            assert parts.netloc == "localhost:8080"
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            response = instance.get(target)
            assert response.status == 200, response
            assert_same(response.text, expected)


def test_the_example_application_passes_the_projects_own_checks(shop: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", shop)
    for name, _ in example_files():
        ruff = [str(Path(sys.executable).parent / "ruff"), "check", "--quiet", name]
        done = subprocess.run(ruff, cwd=shop, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def section(heading: str) -> str:
    """The text below the heading that contains these words, up to the next of its level."""
    lines = README.read_text().splitlines()
    fenced = False
    found: list[str] = []
    level = 0
    for line in lines:
        fenced ^= line.startswith("```")
        match = None if fenced else re.match(r"(#+) (.*)", line)
        if match and level and len(match[1]) <= level:
            break
        if match and not level and heading in match[2].lower():
            level = len(match[1])
        if level:
            found.append(line)
    assert found, f"the README has no heading with {heading!r}"
    return "\n".join(found)


def settings_rows() -> Iterator[tuple[str, str]]:
    """Name and default of each setting in the table; one row may hold two, parted by ``/``."""
    for row in re.findall(r"^\| *(`.*)\|$", section("settings"), re.MULTILINE):
        names, defaults, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row, maxsplit=2))
        values = [value.strip().strip("`") for value in defaults.split(" / ")]
        for name, value in zip(re.findall(r"`([A-Z_]+)`", names), values, strict=True):
            yield name, "" if value.startswith("empty") else value


def tree_paths() -> Iterator[Path]:
    """The files and folders of the listing of the repository, the block with ``app/`` on a line.

    Two spaces or more part the names of a line from each other and from what is said of them.
    """
    (tree,) = [block for _, block in fences(README.read_text()) if re.search(r"^app/", block, re.MULTILINE)]
    above: list[tuple[int, str]] = []
    for line in filter(str.strip, tree.splitlines()):
        indent = len(line) - len(line.lstrip())
        above = [entry for entry in above if entry[0] < indent]
        parent = Path(*(name for _, name in above))
        first, *others = re.split(r" {2,}", line.strip())
        for name in [first, *(name for name in others if re.fullmatch(r"[^ ]*[./][^ ]*", name))]:
            yield parent / name
        if first.endswith("/"):
            above.append((indent, first))


def own_application() -> str:
    """The part of the README about one's own application."""
    return section("your own application")


def example_files() -> Iterator[tuple[str, str]]:
    """Name and text of each file of the example application."""
    for info, text in fences(own_application()):
        if match := re.search(r'title="([^"]+)"', info):
            yield match[1], text


def example_commands() -> Iterator[tuple[str, str]]:
    """The URL of each curl command of the example, and the output that the README shows."""
    for info, text in fences(own_application()):
        if not info.startswith("console"):
            continue
        for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, output = command.partition("\n")
            if match := re.match(r"curl -s '([^']+)'$", line.strip()):
                yield match[1], output


def fences(text: str) -> Iterator[tuple[str, str]]:
    """The info string and the text of each fenced code block."""
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1].strip(), match[2]


def assert_same(answer: str, expected: str) -> None:
    """The answer is the text, except for what is a time: figures before " s" or " ms"."""

    def normal(text: str) -> str:
        return re.sub(r"\d+\.\d+(?= m?s\b)", "<time>", text.strip())

    assert normal(answer) == normal(expected)
