"""The watchdog under a real supervisor, with less patience, and with stand-ins for most instances."""

import os
import re
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
from supervisor.xmlrpc import SupervisorTransport

from deploy.supervise import watchdog
from slowpool.config import Pool
from slowpool.observe.heartbeat import BEAT
from tests.support.basics import ROOT, Entered, environment, free_ports, wait_until
from tests.support.client import request
from tests.support.gate import Gate
from tests.support.process import APPS, Instance, Process
from tests.support.system import is_ready
from tests.support.watching import events, texts

SUPERVISOR = """
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
silent=true
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[eventlistener:watchdog]
command={python} {folder}/watchdog.py
events=PROCESS_STATE_STARTING,PROCESS_STATE_BACKOFF,PROCESS_STATE_EXITED,PROCESS_STATE_FATAL
stdout_logfile=NONE
stderr_logfile=/dev/stdout
stderr_logfile_maxbytes=0
[program:fast]
command={python} -m {program}
startsecs={start_seconds}
process_name=fast-%(process_num)d
numprocs=2
numprocs_start={port}
autorestart=true
redirect_stderr=true
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
"""
WATCHDOG = """
from deploy.supervise import watchdog
watchdog.PROBE_INTERVAL_SECONDS = 0.1
watchdog.FAST_HUNG_SECONDS = 1.5
watchdog.BUSY_SECONDS = {busy_seconds}
watchdog.main()
"""


class Watched(Entered):
    """supervisor, the watchdog and two stand-ins; ``ways`` is how they behave from the start.

    supervisor takes a program that ends within ``start_seconds`` for one that cannot start. An instance that
    makes progress may be silent for ``busy_seconds`` more.
    """

    program = "tests.apps.stand_in {folder} %(process_num)d"

    def __init__(
        self, *ways: str, start_seconds: int = 1, busy_seconds: int = 300, **settings: object
    ) -> None:
        self.ports = [first := free_ports(2), first + 1]
        self._ways = ways
        self._start_seconds = start_seconds
        self._busy_seconds = busy_seconds
        placed = {"FAST_PORT": first, "FAST_PROCESSES": 2, "SLOW_PORT": free_ports(2)}
        self._settings = {**placed, "LOG_FORMAT": "console", **settings}

    def enter(self, parts: ExitStack) -> None:
        # pytest's own folders have paths too long for supervisor's socket.
        self.folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="slowpool-")))
        self.tell(*self._ways)
        values = {"folder": self.folder, "python": sys.executable, "port": self.ports[0]}
        values |= {"program": self.program.format(**values), "start_seconds": self._start_seconds}
        (self.folder / "supervisord.conf").write_text(SUPERVISOR.format(**values))
        (self.folder / "watchdog.py").write_text(WATCHDOG.format(busy_seconds=self._busy_seconds))
        env = {
            **environment(self._settings),
            "SLOWPOOL_PROGRAMS": "fast",
            "SLOWPOOL_RUN_DIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(APPS), str(ROOT)]),
        }
        command = [
            sys.executable,
            "-m",
            "supervisor.supervisord",
            "-c",
            str(self.folder / "supervisord.conf"),
        ]
        self.process = parts.enter_context(Process(command, ROOT, env))
        parts.callback(self._end)
        wait_until((self.folder / "supervisor.sock").exists)

    def tell(self, *ways: str) -> None:
        """Have both stand-ins behave in these ways from now on, and in no other."""
        for port in self.ports:
            self.tell_one(port, *ways)

    def tell_one(self, port: int, *ways: str) -> None:
        for file in self.folder.glob(f"{port}.*"):
            file.unlink()
        for way in ways:
            (self.folder / f"{port}.{way}").touch()

    def proxy(self) -> ServerProxy:
        """A connection to supervisor."""
        transport = SupervisorTransport(None, None, f"unix://{self.folder}/supervisor.sock")
        return ServerProxy("http://127.0.0.1", transport=transport)

    def pid(self, program: str) -> int:
        """The process of a program, 0 where none runs."""
        with self.proxy() as proxy:
            info: Any = proxy.supervisor.getProcessInfo(program)
            return int(info["pid"])

    def kills(self, port: int) -> int:
        """How often the watchdog has killed a stand-in for having hung."""
        return self.process.output.count(f"fast:fast-{port} has not answered for 1.5 s: killing it")

    def answers(self, port: int) -> int:
        """How many probes a stand-in has answered since it was told how to behave."""
        file = self.folder / f"{port}.answers"
        return len(file.read_text()) if file.exists() else 0

    def ends(self, port: int) -> int:
        """How often a program has ended by itself."""
        return len(re.findall(rf"fast:fast-{port} is (EXITED|BACKOFF|FATAL)", self.process.output))

    def peak_bytes(self) -> int:
        """The most memory that the watchdog has had resident."""
        status = Path(f"/proc/{self.pid('watchdog')}/status").read_text()
        return int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[0]) << 10

    def _end(self) -> None:
        self.tell()
        if self.process.running:
            self.process.signal(signal.SIGINT)
            self.process.wait()


class WatchedInstances(Watched):
    """The same with real instances, which are ready."""

    program = "slowpool serve --pool=fast --port=%(process_num)d"

    def enter(self, parts: ExitStack) -> None:
        super().enter(parts)
        for port in self.ports:
            self.process.wait_for_output(f"fast:{port} is ready")


def test_a_program_that_the_watchdog_kills_again_and_again_never_ends_everything() -> None:
    with Watched("hang") as watched:
        wait_until(lambda: all(watched.kills(port) >= 5 for port in watched.ports), 60)
        watched.tell()
        before = [watched.process.output.count(f"fast:fast-{port} is EXITED") for port in watched.ports]
        wait_until(lambda: all(watched.pid(f"fast:fast-{port}") for port in watched.ports))
        assert watched.process.running
        assert "shutting everything down" not in watched.process.output
        assert min(before) >= 4


def test_programs_that_never_answer_end_everything_with_one_line_and_no_traceback() -> None:
    with Watched("die") as watched:
        watched.process.wait(60)
        output = watched.process.output
        assert len(re.findall(r"cannot be kept running: shutting everything down", output)) == 1, output
        assert "Traceback" not in output


def test_a_beat_of_before_a_reboot_does_not_count() -> None:
    with Watched("die", start_seconds=60) as watched:
        for port in watched.ports:
            (watched.folder / f"heartbeat-{port}").write_bytes(BEAT.pack(time.monotonic() + 1e6, 1))
        watched.process.wait(60)
        assert "cannot be kept running: shutting everything down" in watched.process.output


def test_kills_for_having_hung_do_not_excuse_ends_in_vain() -> None:
    with Watched("hang") as watched:
        wait_until(lambda: all(watched.kills(port) for port in watched.ports))
        watched.tell("die")
        watched.process.wait(60)
        assert "cannot be kept running: shutting everything down" in watched.process.output


def test_while_one_is_restarted_for_its_size_the_others_are_watched() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        large, other = watched.ports
        watched.tell_one(large, "large", "drain")
        watched.process.wait_for_output(
            rf"fast:fast-{large} has \d+ MiB of resident memory, .*: restarting it"
        )
        drains = watched.pid(f"fast:fast-{large}")
        seen = watched.answers(other)
        wait_until(lambda: watched.answers(other) > seen + 3)
        watched.tell_one(other, "hang")
        wait_until(lambda: watched.kills(other))
        assert watched.pid(f"fast:fast-{large}") == drains
        watched.tell()
        wait_until(lambda: watched.pid(f"fast:fast-{large}") not in (0, drains))


def test_two_that_are_too_large_are_restarted_one_at_a_time() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        before = {port: watched.pid(f"fast:fast-{port}") for port in watched.ports}
        watched.tell("large", "drain")
        line = watched.process.wait_for_output("of resident memory, .*: restarting it")
        first = next(port for port in watched.ports if f"fast-{port}" in line)
        (second,) = set(watched.ports) - {first}
        watched.tell_one(second, "large")  # it would go at once
        seen = watched.answers(second)
        wait_until(lambda: watched.answers(second) > seen + 3)
        assert watched.pid(f"fast:fast-{second}") == before[second]
        watched.tell_one(first)
        watched.process.wait_for_output(
            rf"fast:fast-{second} has \d+ MiB of resident memory, .*: restarting it"
        )
        wait_until(lambda: watched.pid(f"fast:fast-{second}") not in (0, before[second]))


def test_a_probe_reads_a_status_line_and_no_more() -> None:
    with Watched() as watched:
        wait_until(lambda: min(map(watched.answers, watched.ports)) > 3)
        before = watched.peak_bytes()
        watched.tell("flood")
        wait_until(lambda: min(map(watched.answers, watched.ports)) > 3)
        assert watched.peak_bytes() - before < 20 << 20


def test_an_answer_that_drips_is_no_answer() -> None:
    with Watched("drip") as watched:
        wait_until(lambda: all(watched.kills(port) for port in watched.ports))


def test_an_instance_that_is_busy_with_one_request_after_the_other_is_not_killed() -> None:
    with (
        WatchedInstances(APP="tests.apps.watched:make_app", SLOW_LEARN_SECONDS=0) as watched,
        ThreadPoolExecutor(20) as clients,
    ):
        port, _ = watched.ports
        blocks = [clients.submit(request, port, "/report/tea?seconds=0.5") for _ in range(20)]
        assert {block.result().status for block in blocks} == {200}
        assert not watched.kills(port)


def test_what_the_watchdog_does_is_known_to_the_instances() -> None:
    with WatchedInstances(APP="tests.apps.watched:make_app") as watched:
        port, other = watched.ports
        wait_until(lambda: all(len(events(one, "ready")) == 2 for one in watched.ports))
        with pytest.raises(ConnectionError):
            request(port, "/report/tea?seconds=1000")
        (hang,) = wait_until(lambda: texts(other, "hang"))
        assert hang == f"hang fast:{port}: has not answered for 1.5 s, and is killed"
        wait_until(lambda: len(events(other, "ready")) == 3)
        assert texts(other, "exit") == [], "the kill is one event"
        wait_until(lambda: events(port, "hang") == events(other, "hang"))


def test_an_instance_that_is_restarted_for_its_size_is_an_event() -> None:
    with WatchedInstances(INSTANCE_MAX_RSS_BYTES=1) as watched:

        def restarted() -> list[str]:
            with suppress(OSError):
                return texts(watched.ports[1], "memory")
            return []

        last = wait_until(restarted)[-1]
        assert re.match(r"memory fast:\d+: has \d+ MiB of resident memory, more than INSTANCE_MAX_RSS", last)


def test_the_end_of_everything_in_a_replica_is_known_to_the_other_replicas() -> None:
    placed: dict[str, Any] = {"SLOW_PORT": free_ports(), "SLOW_PROCESSES": 1}
    with Instance(Pool.SLOW, port=placed["SLOW_PORT"], **placed, FAST_PORT=free_ports(2)) as slow:
        with Watched("die", **placed) as watched:
            watched.process.wait(60)
        (line,) = [text for text in texts(slow.port, "exit") if "shut down" in text]
        assert re.match(r"exit fast:\d+: cannot be kept running: everything here is shut down", line)


@pytest.mark.long  # test_life.py has one that is stopped
def test_an_instance_whose_handler_does_not_return_is_killed() -> None:
    with WatchedInstances(APP="tests.apps.watched:make_app") as watched:
        port, _ = watched.ports
        with pytest.raises(ConnectionError):
            request(port, "/report/tea?seconds=1000")
        assert watched.kills(port) == 1


def test_one_that_makes_progress_and_never_answers_is_killed_later() -> None:
    with Watched("hang", "beat", busy_seconds=1) as watched:
        watched.process.wait_for_output(r"works and has not answered for 2.5 s: killing it")
        assert not any(map(watched.kills, watched.ports))


def test_one_that_is_asked_to_restart_drains_and_is_replaced_and_the_other_stays() -> None:
    with Watched("beat") as watched:
        wanted, other = watched.ports
        before = {port: watched.pid(f"fast:fast-{port}") for port in watched.ports}
        watched.tell_one(wanted, "beat", "restart", "drain")
        watched.process.wait_for_output(f"fast:fast-{wanted} was asked to restart: restarting it")
        assert watched.pid(f"fast:fast-{wanted}") == before[wanted], "it drains"
        watched.tell_one(wanted, "beat")
        wait_until(lambda: watched.pid(f"fast:fast-{wanted}") not in (0, before[wanted]))
        seen = watched.answers(wanted)
        wait_until(lambda: watched.answers(wanted) > seen + 3)
        assert watched.process.output.count("was asked to restart") == 1
        assert watched.pid(f"fast:fast-{other}") == before[other]


def test_one_that_does_not_come_back_stays_stopped_and_ends_nothing_else() -> None:
    with Watched("beat") as watched:
        wanted, other = watched.ports
        before = watched.pid(f"fast:fast-{other}")
        watched.tell_one(wanted, "beat", "restart", "drain")
        watched.process.wait_for_output(f"fast:fast-{wanted} was asked to restart: restarting it")
        watched.tell_one(wanted, "die")
        watched.process.wait_for_output(rf"fast:fast-{wanted} did not come back, and stays stopped", 60)
        wait_until(lambda: not watched.pid(f"fast:fast-{wanted}"))
        seen = watched.answers(other)
        wait_until(lambda: watched.answers(other) > seen + 20)
        assert not watched.pid(f"fast:fast-{wanted}")
        assert watched.pid(f"fast:fast-{other}") == before
        assert "shutting everything down" not in watched.process.output


def test_where_none_that_was_restarted_comes_back_everything_ends() -> None:
    with Watched("beat") as watched:
        for port, end in zip(watched.ports, ("stays stopped", "everything here is shut down"), strict=True):
            watched.tell_one(port, "beat", "restart", "drain")
            watched.process.wait_for_output(f"fast:fast-{port} was asked to restart: restarting it")
            watched.tell_one(port, "die")
            wait_until(lambda: f"fast:fast-{port} did not come back, and {end}" in watched.process.output, 60)  # noqa: B023  # waits here
        watched.process.wait()


def test_one_that_was_too_large_and_does_not_come_back_is_started_again() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        port, _ = watched.ports
        watched.tell_one(port, "large", "drain")
        watched.process.wait_for_output("of resident memory, .*: restarting it")
        watched.tell_one(port, "die")
        watched.process.wait_for_output(f"fast:fast-{port} did not come back")
        watched.tell_one(port)
        wait_until(lambda: watched.answers(port))
        assert "stays stopped" not in watched.process.output


def test_one_that_has_been_replaced_meanwhile_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Watched() as watched, watched.proxy() as proxy:
        port, _ = watched.ports
        name = f"fast:fast-{port}"
        pid = wait_until(lambda: watched.pid(name))
        monkeypatch.setattr(watchdog, "_supervisor", lambda: proxy.supervisor)
        patient, harsh = (watchdog.Program(name, 0, "", seconds) for seconds in (1000, 0))
        assert not watchdog._kill(patient, "does not answer")
        assert watched.pid(name) == pid
        assert watchdog._kill(harsh, "does not answer")
        watched.tell()
        wait_until(lambda: watched.answers(port))
        assert watched.pid(name) != pid


@pytest.mark.parametrize("start_seconds", [60, pytest.param(0, marks=pytest.mark.long)])
def test_requests_that_end_an_instance_again_and_again_never_end_everything(
    tmp_path: Path, start_seconds: int
) -> None:
    with WatchedInstances(APP="tests.apps.edge:make_app", start_seconds=start_seconds) as watched:
        port, _ = watched.ports
        die = Gate(tmp_path / "gate")("/die")
        while watched.ends(port) < 8:
            assert watched.process.running, watched.process.output
            with suppress(OSError):
                request(port, die)
            time.sleep(0.02)
        assert "shutting everything down" not in watched.process.output
        wait_until(lambda: is_ready(port))
