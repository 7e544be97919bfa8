"""``slowpool check`` says whether the application can be loaded."""

import subprocess
from pathlib import Path

import pytest

from tests.support.process import check_app

MAKE = "from tornado.web import Application\n\n\n"

LOADED = [
    ("shop:app", f"{MAKE}app = Application()"),
    ("shop:make_app", f"{MAKE}def make_app(): return Application()"),
    ("shop:make_app", f"{MAKE}async def make_app(): return Application()"),
    ("shop:Shop", f"{MAKE}class Shop(Application): pass"),
    ("shop:app", f"{MAKE}class Shop(Application): pass\n\n\napp = Shop()"),
    ("shop:Shop.make", f"{MAKE}class Shop:\n    @staticmethod\n    def make(): return Application()"),
    ("shop:make_app", f"{MAKE}import functools\n\nmake_app = functools.partial(Application, debug=False)"),
    (
        "shop:make_app",
        f"{MAKE}import asyncio\n\nasync def make_app():\n    await asyncio.sleep(0); return Application()",
    ),
]
WRONG = [
    ("shop:app", "x = 1", "shop has no attribute 'app'"),
    ("shop:Shop.make", "class Shop: pass", "shop has no attribute 'Shop.make'"),
    (
        "shop:app",
        "app = None",
        "must be a tornado.web.Application or a function that returns one, not NoneType",
    ),
    ("shop:app", "app = [('/', object)]", "or a function that returns one, not list"),
    ("shop:make_app", "def make_app(): return {}", "or a function that returns one, not dict"),
    ("shop:make_app", "async def make_app(): pass", "or a function that returns one, not NoneType"),
    ("shop:make_app", "class make_app: pass", "or a function that returns one, not make_app"),
    ("market:app", "", "there is no module 'market'; put your package in the working directory"),
    ("shop.main:app", "", "there is no module 'shop.main'; put your package in the working directory"),
]
RAISING = [
    ("app = [", 1, "SyntaxError: "),
    ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ("import no_such_package", 1, "ModuleNotFoundError: No module named 'no_such_package'"),
    ("import sys; sys.exit('no licence')", 1, "SystemExit: no licence"),
    ("raise SystemExit(0)", 1, "SystemExit: 0"),
    ("open('/no/such/model')", 1, "FileNotFoundError: "),
    ("def app():\n    return 1 / 0", 2, "ZeroDivisionError: division by zero"),
    ("async def app():\n    return 1 / 0", 2, "ZeroDivisionError: division by zero"),
    ("def app(config):\n    pass", 0, "TypeError: app() missing 1 required positional argument: 'config'"),
]


def check(folder: Path, text: str, app: str = "shop:app") -> subprocess.CompletedProcess[str]:
    """Check an application of a module ``shop`` of this text."""
    (folder / "shop.py").write_text(text)
    return check_app(folder, APP=app)


@pytest.mark.parametrize(("app", "text"), LOADED)
def test_an_application_that_can_be_loaded_is_silent(tmp_path: Path, app: str, text: str) -> None:
    done = check(tmp_path, text, app)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("app", "text", "reason"), WRONG)
def test_what_is_no_application_is_one_line_and_exit_status_2(
    tmp_path: Path, app: str, text: str, reason: str
) -> None:
    done = check(tmp_path, text, app)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"slowpool: APP={app}")
    assert reason in line


@pytest.mark.parametrize("app", ["shop", "shop:", ":app", "shop/main.py:app", "shop:make app", "shop:make()"])
def test_a_name_that_is_no_module_and_attribute_is_one_line_and_exit_status_2(
    tmp_path: Path, app: str
) -> None:
    done = check(tmp_path, "", app)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"slowpool: APP={app}: ")


@pytest.mark.parametrize(("text", "number", "reason"), RAISING)
def test_what_an_application_raises_is_its_own_traceback_once_and_exit_status_2(
    tmp_path: Path, text: str, number: int, reason: str
) -> None:
    done = check(tmp_path, text)
    assert done.returncode == 2
    assert done.stderr.count("Traceback (most recent call last)") <= 1
    if number:
        assert done.stderr.count(f'shop.py", line {number}') == 1
    assert "slowpool/" not in done.stderr
    assert "importlib" not in done.stderr
    *_, raised, last = done.stderr.splitlines()
    assert raised.startswith(reason)
    assert last == f"slowpool: APP=shop:app cannot be loaded: {raised}"


@pytest.mark.parametrize("text", ["raise ValueError('two\\nlines')", "raise ValueError"])
def test_the_last_line_says_what_was_raised_whatever_its_text(tmp_path: Path, text: str) -> None:
    done = check(tmp_path, text)
    assert done.returncode == 2
    assert "slowpool: APP=shop:app cannot be loaded: ValueError" in done.stderr


def test_an_application_sees_no_command_line_and_may_leave_a_thread(tmp_path: Path) -> None:
    done = check(
        tmp_path,
        f"{MAKE}import sys, threading, time\n\n"
        "assert sys.argv[1:] == []\n"
        "threading.Thread(target=time.sleep, args=[1000]).start()\n\n"
        "def app():\n    assert sys.argv[1:] == []\n    return Application()",
    )
    assert (done.returncode, done.stderr) == (0, "")
