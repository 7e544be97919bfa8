"""The documents say what the code does; nothing is started here."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from slowpool.__main__ import COMMANDS, main
from slowpool.config import Config
from slowpool.errors import RequestError
from slowpool.observe.metrics import Metrics
from tests.support.basics import ROOT
from tests.support.documents import CHANGELOG, DOCUMENTS, anchors, code, fences, section, table_cells
from tests.support.fault_schedule import guarantees

APP, DEPLOY = ROOT / "app" / "README.md", ROOT / "deploy" / "README.md"

MADE_BY_THE_USER = {"deploy/kubernetes/overlays/production/secrets"}
NO_VARIABLES = {"CONFIG_SCHED_AUTOGROUP", "F_SETSIG", "RLIMIT_DATA", "SCHED_IDLE", "SO_REUSEPORT"}
NO_SETTING = {"SLOW_WORKER"}
"""The document's own example of a mistake."""

PRESENT = [document for document in DOCUMENTS if document != CHANGELOG]
"""The changelog names the paths of earlier releases too."""


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
each_present = pytest.mark.parametrize("document", PRESENT, ids=name_of)


@each_document
def test_each_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        target, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        file = document.parent / target if target else document
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


@each_present
def test_each_path_exists(document: Path) -> None:
    pattern = r"(?<![\w/.-])(?:(?:app|deploy|nginx|tests)/|\.ci/)[\w./-]*\w"
    paths = set(re.findall(pattern, document.read_text())) - MADE_BY_THE_USER
    assert not [path for path in paths if not (ROOT / path).exists()]


@each_present
def test_each_entry_of_a_tree_exists(document: Path) -> None:
    missing = [path for path in tree_paths(document) if not (document.parent / path).exists()]
    assert not missing


def test_the_tree_of_the_package_has_every_room() -> None:
    rooms = {file.parent.relative_to(ROOT / "app") for file in (ROOT / "app").glob("slowpool/*/__init__.py")}
    assert rooms <= set(tree_paths(APP))


@each_present
def test_each_setting_exists(document: Path) -> None:
    names = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", document.read_text()))
    names |= set(re.findall(r"(?<![\w-])([A-Z]{4,})=", document.read_text()))
    settings = {name.upper() for name in Config.model_fields}
    unknown = names - settings - NO_VARIABLES - NO_SETTING - variables_of_the_engines()
    assert not unknown


@each_present
def test_each_command_exists(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, rest in re.findall(r"(?<!-n )\bslowpool ([a-z]+)\b([^\n]*)", code(document.read_text())):
        assert command in COMMANDS, command
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        for option in re.findall(r"--[a-z][a-z-]*", rest):
            assert option in shown, f"slowpool {command} {option}"


@each_present
def test_each_script_can_be_run(document: Path) -> None:
    text = code(document.read_text())
    for script in re.findall(r"(?:^|\s)\./([\w/-]+)", text):
        assert os.access(ROOT / script, os.X_OK), script
    for module in re.findall(r"python3? -m ((?:tests|deploy|slowpool)[\w.]*)", text):
        assert importlib.util.find_spec(module), module


def test_the_table_of_statuses_has_every_error() -> None:
    shown = {int(status) for status in re.findall(r"\b[45]\d\d\b", section(APP, "What a client gets"))}
    assert shown >= {error.status for error in errors(RequestError)} - {499}


def test_the_table_of_metrics_is_that_of_an_instance() -> None:
    families = Metrics().registry.collect()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    cells = table_cells(section(DEPLOY, "Observe it"), 0)
    shown = {name for cell in cells for name in re.findall(r"`([a-z_*]+)`", cell)}
    assert shown == {"process_*" if name.startswith("process_") else name for name in names}


def test_the_table_of_the_access_log_has_every_field_of_a_line() -> None:
    text = (ROOT / "nginx" / "http" / "logging.conf").read_text()
    logged = re.findall(r'"(\w+)":', text[text.index("log_format json") : text.index("log_format console")])
    cells = table_cells(section(DEPLOY, "The log"), 0)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(logged)


def test_the_tables_of_guarantees_are_those_of_the_fault_schedule() -> None:
    figures = json.loads((ROOT / "tests" / "bench" / "FAULTS.json").read_text())
    on_swarm = {"swarm": figures.pop("swarm")}
    assert guarantees(figures) in section(DEPLOY, "Nothing is lost")
    assert guarantees(on_swarm) in section(DEPLOY, "Docker Swarm")
    assert sum(row["requests"] for rows in figures.values() for row in rows) >= 100_000


def errors(base: type[RequestError]) -> Iterator[type[RequestError]]:
    for error in base.__subclasses__():
        yield error
        yield from errors(error)


def variables_of_the_engines() -> set[str]:
    """The variables that are not settings: of compose, Swarm, Kubernetes and CI."""
    names = ["docker-compose.yml", "deploy/Dockerfile", ".ci/engine", "Makefile"]
    files = [ROOT / name for name in names]
    files += [file for file in (ROOT / "deploy" / "swarm").iterdir() if file.is_file()]
    files += (ROOT / "nginx").glob("*")
    text = "\n".join(file.read_text() for file in files if file.is_file())
    return {*re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", text), "COMPOSE_PROJECT_NAME", "LOAD"}


def tree_paths(document: Path) -> Iterator[Path]:
    """The files and folders of the blocks marked ``tree``, relative to the document's folder.

    Two spaces or more part the name from its description.
    """
    for info, block in fences(document.read_text()):
        if info != "tree":
            continue
        above: list[tuple[int, str]] = []
        for line in filter(str.strip, block.splitlines()):
            indent = len(line) - len(line.lstrip())
            above = [entry for entry in above if entry[0] < indent]
            name = re.split(r" {2,}", line.strip())[0]
            yield Path(*(parent for _, parent in above), name)
            if name.endswith("/"):
                above.append((indent, name))
