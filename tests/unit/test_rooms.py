"""The rooms of the tests: which test may start what, and which module may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.basics import ROOT

TESTS = ROOT / "tests"
STARTS_AN_INSTANCE = {
    "tests.support.process.Instance",
    "tests.support.process.run_app",
    "tests.support.process.app_command",
    "tests.support.system.System",
    "tests.support.system.run_to_its_end",
}


@pytest.mark.parametrize("file", sorted((TESTS / "unit").rglob("test_*.py")), ids=lambda file: file.name)
def test_a_unit_test_starts_no_instance(file: Path) -> None:
    assert not STARTS_AN_INSTANCE & set(imports(file))
    assert "slowpool serve" not in code(file)


def test_no_test_imports_a_test() -> None:
    found = [
        f"{file.relative_to(TESTS)} imports {name}"
        for file in TESTS.rglob("*.py")
        for name in imports(file)
        if any(part.startswith("test_") for part in name.split(".")[:-1])
    ]
    assert not found


def test_a_package_of_unit_tests_is_named_as_the_package_that_it_tests() -> None:
    packages = {file.parent.name for file in (ROOT / "app").rglob("__init__.py")}
    rooms = {folder.name for folder in (TESTS / "unit").iterdir() if any(folder.glob("test_*.py"))}
    assert rooms <= packages


def imports(file: Path) -> Iterator[str]:
    """The full names that a module imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}." for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def code(file: Path) -> str:
    """The text of a module's lists, joined: a command line as a shell would have it."""
    lists = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.List))
    return "\n".join(
        " ".join(str(item.value) for item in node.elts if isinstance(item, ast.Constant)) for node in lists
    )
