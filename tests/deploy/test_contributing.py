"""CONTRIBUTING.md and the Makefile agree with each other and with the repository."""

import ast
import re
import shutil
import subprocess

import pytest

from deploy.generate import generated
from tests.support.basics import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)
FOLDERS = r"(?:app|deploy|nginx|tests|\.ci)/"


def test_every_target_of_the_makefile_is_described_and_no_other() -> None:
    described = re.findall(r"^\| `make ([a-z-]+)` \|", TEXT, re.MULTILINE)
    assert described == TARGETS
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[^`\n]*`)", TEXT)) <= set(TARGETS)


def test_every_target_is_phony_and_has_one_line() -> None:
    assert re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE) == [" ".join(TARGETS)]
    for target in TARGETS:
        assert re.search(rf"^{target}:[^\n]*\n\t[^\n]+\n\n", MAKEFILE, re.MULTILINE), target


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_every_script_of_the_makefile_exists() -> None:
    scripts = re.findall(rf"(?:^|\s)\.?/?({FOLDERS}[\w/.-]+)", MAKEFILE)
    assert scripts
    assert [path for path in scripts if not (ROOT / path.rstrip("./")).exists()] == []


def test_every_path_and_link_of_the_text_exists() -> None:
    paths = re.findall(rf"`({FOLDERS}[\w./*-]*)`", TEXT)
    paths += re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert paths
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


def test_every_name_of_the_text_is_defined_in_the_file_that_it_names() -> None:
    found = re.findall(r"`(\w+)` in `([\w/.]+\.py)`", TEXT)
    assert len(found) >= 4
    for name, path in found:
        assert name in _definitions(path), f"{path} does not define {name}"


def test_every_room_of_the_package_is_described() -> None:
    rooms = {file.parent.relative_to(ROOT).as_posix() for file in ROOT.glob("app/slowpool/*/__init__.py")}
    assert set(re.findall(r"^\| `(app/slowpool/\w+)/` \|", TEXT, re.MULTILINE)) == rooms


def test_every_generated_file_is_named() -> None:
    section = TEXT.partition("## Generated files")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([\w./-]+\.[\w.]+)`", section)) >= generated().keys()


def _definitions(path: str) -> set[str]:
    """Names that a module defines at its top level."""
    names = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
