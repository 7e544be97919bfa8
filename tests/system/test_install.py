"""A fresh clone, on a machine that has Python and nothing else."""

import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.checkout import copy_checkout
from tests.support.process import Process
from tests.support.system import System, run_to_its_end, session
from tests.support.user_project import APP, LEFT_TO_FILE, check_answers, put_project_into


@pytest.fixture
def clone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a clone of the checkout would have, with what is not committed yet.

    It also has the TMPDIR of what the test starts: a pip that is killed leaves its files there.
    """
    # pytest's own folders have paths too long for supervisor's socket.
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        copy_checkout(Path(folder))
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(temporary))
        yield Path(folder)


@pytest.mark.slow
def test_a_fresh_clone_installs_itself_and_answers(clone: Path) -> None:
    assert not (clone / ".venv").exists()
    put_project_into(clone)
    with System(clone, left_to_file=LEFT_TO_FILE, APP=APP) as own:
        check_answers(own.get)
        assert f"slowpool: installs into {clone / '.venv'}" in own.output
    with System(clone) as system:
        assert system.get("/fast?id=7").text == "fast result 7"
        assert system.get("/slow_threaded?id=7&n=9").status == 200
        assert "installs" not in system.output
    (clone / "requirements.txt").write_text("./no-such.whl\n")
    done = run_to_its_end(clone)
    assert done.returncode == 1
    *said, failed = done.stderr.splitlines()  # on a busy machine also that there is no answer yet
    assert len(said) <= 1
    assert re.fullmatch(r"slowpool: pip install failed: .*no-such\.whl.*", failed)


@pytest.fixture
def pip_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip asks only the index that the test names, and tries it once again."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return monkeypatch


@pytest.mark.parametrize("retries", [1, pytest.param(0, marks=pytest.mark.long)])
def test_without_a_network_it_is_said_with_the_real_error_and_tried_again_next_time(
    clone: Path, pip_settings: pytest.MonkeyPatch, retries: int
) -> None:
    pip_settings.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    pip_settings.setenv("PIP_RETRIES", str(retries))
    for _ in range(2):
        done = run_to_its_end(clone)
        assert done.returncode == 1
        *said, unreached, failed = (
            done.stderr.splitlines()
        )  # on a busy machine also that there is no answer yet
        assert len(said) <= 1
        assert unreached.startswith("slowpool: pip cannot reach the package index: ")
        assert failed.startswith("slowpool: pip install failed: it cannot reach the package index: ")
        for line in (unreached, failed):
            assert "Connection refused" in line
        assert done.stdout == f"slowpool: installs into {clone / '.venv'}\n"


def test_an_index_that_is_silent_is_named_while_pip_still_waits_for_it(
    clone: Path, pip_settings: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pip_settings.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        pip_settings.setenv("PIP_DEFAULT_TIMEOUT", "60")
        with Process([clone / "deploy" / "local"], clone, os.environ) as local:
            line = local.wait_for_output(
                "cannot reach the package index: .*(Read timed out|didn.t respond)", 60
            )
            assert line.startswith("slowpool: pip cannot reach the package index: ")
            assert local.running
            local.signal(signal.SIGINT)
            assert local.wait() == 130
            assert "Traceback" not in local.output


def test_a_signal_while_it_installs_ends_all_that_it_has_started(clone: Path) -> None:
    with Process([clone / "deploy" / "local"], clone, os.environ) as local:
        pip = wait_until(lambda: [one for one in session_of(local.pid) if "ensurepip" in command(one)])
        try:
            for process in pip:
                process.suspend()  # so that it does not end by itself
            local.signal(signal.SIGINT)
            assert local.wait() == 130
            wait_until(lambda: not session_of(local.pid))
        finally:
            for process in session_of(local.pid):
                process.kill()


def session_of(leader: int) -> list[psutil.Process]:
    """The processes of a session."""
    return [process for process in psutil.process_iter() if session(process.pid) == leader]


def command(process: psutil.Process) -> list[str]:
    """The command line of a process; empty when it has gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_package_that_the_index_does_not_have_is_no_fault_of_the_network(
    clone: Path, pip_settings: pytest.MonkeyPatch
) -> None:
    pip_settings.setenv("PIP_NO_INDEX", "1")
    done = run_to_its_end(clone)
    assert done.returncode == 1
    *said, line = done.stderr.splitlines()  # on a busy machine also that there is no answer yet
    assert len(said) <= 1
    assert line.startswith("slowpool: pip install failed: ERROR: No matching distribution found for ")
