"""What a new user gets wrong: one message before anything starts, and exit status 2."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.supervise.rpc import CONTAINER_RUN_DIR
from tests.support.basics import ROOT, environment
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.system import ONE_EACH, System, run_to_its_end

CONTROLLED = "tests.apps.controlled:make_app"


def test_help_says_what_it_does_and_where_its_settings_are() -> None:
    for option in ("--help", "-h"):
        done = run_to_its_end(ROOT, option)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: deploy/local\n")
        for word in (".env", "README.md", "Ctrl-C"):
            assert word in done.stdout


def test_an_unknown_argument_is_usage_and_nothing_starts() -> None:
    done = run_to_its_end(ROOT, "start")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: deploy/local; --help says more\n"


@pytest.mark.parametrize(
    ("text", "lines", "last"),
    [
        ("app = 7", 1, "slowpool: APP=shop:app must be a tornado.web.Application or a function"),
        ("app = [", 9, "slowpool: APP=shop:app cannot be loaded: SyntaxError: "),
        (
            "import os; os.kill(os.getpid(), 9)",
            1,
            "slowpool: APP=shop:app: loading it ends Python with",
        ),
    ],
)
@pytest.mark.parametrize("where", ["local", "container"])
def test_an_application_that_cannot_be_loaded_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, text: str, lines: int, last: str
) -> None:
    (tmp_path / "shop.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run_to_its_end(APP="shop:app") if where == "local" else supervise_fast(APP="shop:app")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) <= lines
    assert done.stderr.splitlines()[-1].startswith(last)
    assert done.stderr.count("Traceback") <= 1


@needs_openssl
def test_a_file_of_nginx_that_is_missing_or_wrong_is_one_line(tmp_path: Path) -> None:
    certificate, key, wrong = tmp_path / "certificate", tmp_path / "key", tmp_path / "wrong"
    make_certificate(certificate, key)
    wrong.write_text("two\nlines\n")
    for settings, reason in (
        (
            {"ADMIN_PASSWORD_FILE": tmp_path / "missing"},
            "ADMIN_PASSWORD_FILE=.*/missing must be a file that exists",
        ),
        ({"ADMIN_PASSWORD_FILE": wrong}, "ADMIN_PASSWORD_FILE=.*/wrong must hold one line"),
        (
            {"TLS_CERTIFICATE": certificate, "TLS_KEY": tmp_path / "missing"},
            "TLS_KEY=.*/missing must be a file that exists",
        ),
        ({"TLS_CERTIFICATE": wrong, "TLS_KEY": key}, "nginx: cannot load certificate "),
    ):
        done = run_to_its_end(APP=CONTROLLED, **settings)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert re.match(f"slowpool: {reason}", line), line


def test_a_mistyped_variable_is_named_with_the_setting_that_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLOW_WORKER", "3")
    monkeypatch.setenv("SLOW_MODE", "on")  # an application's own
    done = supervise_fast(APP="no.such.module:app")
    first, second = done.stderr.splitlines()
    assert first == "slowpool: SLOW_WORKER is no setting and changes nothing; is SLOW_WORKERS meant?"
    assert second.startswith("slowpool: APP=no.such.module:app: ")


@pytest.mark.parametrize(
    ("names", "host"),
    [("shop.example, *.shop.example", "shop.example"), ("*.shop.example", "www.shop.example")],
)
def test_it_is_up_at_a_name_that_is_answered(names: str, host: str) -> None:
    with System(APP=CONTROLLED, SERVER_NAMES=names, **ONE_EACH) as system:
        url = f"http://{host}:{system.port}/"
        assert f"slowpool: is up, at {url}\n" in system.output
        assert system.get("/echo", headers={"Host": f"{host}:{system.port}"}).status == 200


def supervise_fast(**settings: object) -> subprocess.CompletedProcess[str]:
    """The command of a fast container, where it is expected to end by itself."""
    try:
        return subprocess.run(
            [sys.executable, "-m", "deploy.supervise", "fast"],
            cwd=ROOT,
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        with suppress(OSError):  # nothing has made it, or it is not empty: then it is not the test's
            CONTAINER_RUN_DIR.rmdir()
