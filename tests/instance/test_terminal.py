"""The commands in a terminal: tables, a screen that is updated, and questions."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.gate import Gate
from tests.support.process import APPS, Instance, app_environment
from tests.support.report import report_of

SETTINGS: dict[str, Any] = {"FAST_PROCESSES": 1, "SLOW_PROCESSES": 1, "SLOW_WORKERS": 1}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """``slowpool`` with these arguments in a terminal of its own."""

    def __init__(self, slow: Instance, *arguments: str, columns: int = 160) -> None:
        settings = {**SETTINGS, "SLOW_PORT": slow.port, "FAST_PORT": free_ports()}
        env = {
            **app_environment(APPS, settings),
            "TERM": "xterm-256color",
            "COLUMNS": f"{columns}",
            "LINES": "40",
        }
        self._end, theirs = pty.openpty()
        command = [sys.executable, "-m", "slowpool", *arguments]
        self.process = subprocess.Popen(
            command, cwd=APPS, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.raw = ""

    def read(self) -> bool:
        """Read a part of what is shown; whether there is more."""
        try:
            part = os.read(self._end, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += part.decode()
        return bool(part)

    def wait_for(self, text: str, times: int = 1) -> None:
        while self.raw.count(text) < times:
            assert self.read(), self.raw

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def wait(self) -> int:
        """The exit status, once all has been read."""
        while self.read():
            pass
        return self.process.wait(30)

    @property
    def shown(self) -> str:
        """Without colours."""
        return ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@pytest.fixture
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP="tests.apps.telling:make_app", **SETTINGS) as instance:
        yield instance


def test_the_state_is_a_table_in_colours_and_fits_a_narrow_terminal(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(slow.get, gate("/slow/pages"))
    gate.wait_for(1)
    (job,) = report_of(slow)["running"]
    for columns in (160, 80):
        with contextlib.closing(Terminal(slow, "status", columns=columns)) as terminal:
            assert terminal.wait() == 1, "no fast instance answers"
        assert "\x1b[32m" in terminal.raw, "ready is green"
        assert re.search(rf"^slow:{slow.port} +127\.0\.0\.1 +ready ", terminal.shown, re.MULTILINE)
        assert job["job"][:8] in terminal.shown
        assert max(map(len, terminal.shown.splitlines())) <= columns
    with contextlib.closing(Terminal(slow, "jobs", columns=250)) as terminal:
        assert terminal.wait() == 0
    assert re.search(
        rf"^{job['job']} +running .* 33 % .*tests\.apps\.telling\.pages", terminal.shown, re.MULTILINE
    )
    gate.open()
    assert answer.result().status == 200


def test_a_screen_is_updated_until_it_is_left(slow: Instance) -> None:
    with contextlib.closing(Terminal(slow, "status", "--watch")) as terminal:
        terminal.wait_for(f"slow:{slow.port}", times=3)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 0
    assert "\x1b[?1049h" in terminal.raw
    assert terminal.raw.index("\x1b[?1049l") > terminal.raw.index("\x1b[?1049h"), "the terminal is as before"
    assert "Traceback" not in terminal.raw


def test_a_job_is_cancelled_only_if_the_answer_is_yes(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(slow.get, gate("/slow/pages"))
    gate.wait_for(1)
    (job,) = report_of(slow)["running"]
    question = f"cancel job {job['job']} (tests.apps.telling.pages) at slow:{slow.port} at 127.0.0.1? [y/N] "
    for typed, status in (("\n", 1), ("n\n", 1), ("what\n", 1), ("y\n", 0)):
        with contextlib.closing(Terminal(slow, "cancel", job["job"][:6])) as terminal:
            terminal.wait_for(question)
            assert report_of(slow)["running"]
            terminal.type(typed)
            assert terminal.wait() == status
    assert f"job {job['job']} was cancelled at slow:{slow.port}" in terminal.shown
    assert answer.result().status == 502
    wait_until(lambda: not report_of(slow)["running"])


@pytest.mark.parametrize("end", ["Ctrl-C", "Ctrl-D"])
def test_a_question_is_left_at_once(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor, end: str
) -> None:
    answer = background.submit(slow.get, gate("/slow/pages"))
    gate.wait_for(1)
    with contextlib.closing(Terminal(slow, "cancel", report_of(slow)["running"][0]["job"])) as terminal:
        terminal.wait_for("? [y/N] ")
        if end == "Ctrl-C":
            # Before it reads, it would miss the signal: the kernel sends none, the terminal is not its own.
            reads = psutil.Process(terminal.process.pid)
            wait_until(lambda: reads.status() == psutil.STATUS_SLEEPING)
            terminal.process.send_signal(signal.SIGINT)
        else:
            terminal.type("\x04")
        assert terminal.process.wait(30) == {"Ctrl-C": 130, "Ctrl-D": 1}[end]
        assert terminal.wait() in (1, 130)
        assert "Traceback" not in terminal.raw
    gate.open()
    assert answer.result().status == 200


@pytest.mark.parametrize(
    ("command", "question"),
    [
        (["restart", "slow:{port}"], "restart slow:{port} at 127.0.0.1{cost}? [y/N] "),
        (["roll", "slow"], "restart the one instance of the slow pool{cost}? [y/N] "),
    ],
)
def test_who_is_asked_about_the_only_instance_of_a_pool_is_told_what_its_restart_costs(
    slow: Instance, command: list[str], question: str
) -> None:
    arguments = [part.format(port=slow.port) for part in command]
    cost = "; no other instance of the slow pool is ready: requests get 503 until it is back"
    with contextlib.closing(Terminal(slow, *arguments)) as terminal:
        terminal.wait_for(question.format(port=slow.port, cost=cost))
        terminal.type("n\n")
        assert terminal.wait() == 1


def test_the_events_are_those_of_an_instance_that_answers(slow: Instance) -> None:
    settings = {**SETTINGS, "FAST_PORT": free_ports(40), "FAST_PROCESSES": 40, "SLOW_PORT": slow.port}
    command = [sys.executable, "-m", "slowpool", "status", "--json"]
    done = subprocess.run(
        command, cwd=APPS, env=app_environment(APPS, settings), capture_output=True, text=True, timeout=60
    )
    assert [event["kind"] for event in json.loads(done.stdout)["events"]] == ["ready"]
