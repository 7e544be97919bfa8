"""``slowpool check`` says whether the routes can be served."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import app_environment

HANDLER = (
    "from slowpool.web import Handler, SlowHandler\nclass H(Handler): pass\nclass S(SlowHandler): pass\n"
)

WRONG = [
    ("x = 1", "ROUTES=shop: the module has no list named 'routes'"),
    (f"{HANDLER}routes = [('/a',)]", "ROUTES=shop: ('/a',) is not a route; "),
    (f"{HANDLER}routes = [('/a', S)]", "the pattern of a SlowHandler begins with /slow"),
    (
        "import no_such_package",
        "ROUTES=shop: there is no module 'no_such_package'; put your package in the working directory",
    ),
]
RAISING = [
    ("routes = [", "SyntaxError: "),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    ("raise SystemExit(0)", "SystemExit: 0"),
    ("open('/no/such/model')", "FileNotFoundError: "),
]


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Check a module ``shop`` of this text."""
    (folder / "shop.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "slowpool", "check"],
        cwd=folder,
        env=app_environment(folder, {"ROUTES": "shop"}),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_wrong_routes_are_one_line_and_exit_status_2(tmp_path: Path, text: str, reason: str) -> None:
    done = check(tmp_path, text)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("slowpool: ")
    assert reason in line


@pytest.mark.parametrize(("text", "reason"), RAISING)
def test_what_a_module_raises_is_its_own_traceback_once_and_exit_status_2(
    tmp_path: Path, text: str, reason: str
) -> None:
    done = check(tmp_path, text)
    assert done.returncode == 2
    assert done.stderr.count("Traceback (most recent call last)") <= 1
    assert done.stderr.count('shop.py", line 1') == 1
    assert "slowpool/web/routes.py" not in done.stderr
    *_, raised, last = done.stderr.splitlines()
    assert raised.startswith(reason)
    assert last == f"slowpool: ROUTES=shop cannot be imported: {raised}"


def test_routes_that_can_be_served_are_silent(tmp_path: Path) -> None:
    done = check(tmp_path, f"{HANDLER}routes = [('/a', H), ('/slow/a', S)]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
