"""The package has layers, and imports go down only."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.basics import ROOT

SOURCE = ROOT / "app"
LAYERS = [
    {"slowpool.errors"},
    {"slowpool.config"},
    {"slowpool.environment"},
    {"slowpool.local_run", "slowpool.mistyped", "slowpool.reload"},
    {"slowpool.linux"},
    {"slowpool.http"},
    {"slowpool.observe"},
    {"slowpool.workers"},
    {"slowpool.instance"},
    {"slowpool.web"},
    {"slowpool"},
    {"slowpool.jobs", "slowpool.status"},
    {"slowpool.server", "slowpool.capacity"},
    {"slowpool.__main__"},
]
"""From low to high: a module, or a room with all its modules."""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in (SOURCE / "slowpool").rglob("*.py")}


def imports(file: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.name} has a relative import, which this test does not follow"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in FILES else str(node.module)
                for alias in node.names
            }
    return found & FILES.keys()


def layer(module: str) -> int:
    room = ".".join(module.split(".")[:2])
    (number,) = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    return number


IMPORTS = {name: imports(file) for name, file in FILES.items()}


def climbing(modules: dict[str, set[str]]) -> list[str]:
    """The imports of a higher layer."""
    return [
        f"{name} imports {imported}"
        for name, found in modules.items()
        for imported in found
        if layer(imported) > layer(name)
    ]


def test_no_module_imports_one_of_a_higher_layer() -> None:
    assert climbing(IMPORTS) == []
    assert climbing({"slowpool.http.guard": {"slowpool.web.exchange"}}), "the test finds one that does"


def test_no_import_is_part_of_a_cycle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_import_is_hidden_behind_type_checking(module: str) -> None:
    assert "TYPE_CHECKING" not in FILES[module].read_text()


def test_a_worker_process_imports_only_the_standard_library_and_its_own_rooms() -> None:
    script = (
        "import sys; before = {*sys.modules}; import slowpool.workers.child; "
        "print('\\n'.join({*sys.modules} - before))"
    )
    command = [sys.executable, "-c", script]
    loaded = subprocess.check_output(command, env={"PYTHONPATH": str(SOURCE)}, text=True).split()
    ours = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    rooms = ("slowpool.workers", "slowpool.linux")
    assert {name for name in ours if not name.startswith(rooms)} == {"slowpool"}


def test_what_serves_requests_does_not_import_rich() -> None:
    script = "import sys, slowpool.__main__; print([name for name in sys.modules if name.startswith('rich')])"
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, env={"PYTHONPATH": str(SOURCE)}, text=True).strip() == "[]"
