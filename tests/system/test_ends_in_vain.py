"""Programs that end again and again: what of it ends everything, and what does not."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from slowpool.observe.heartbeat import BEAT
from tests.support.basics import free_ports, wait_until
from tests.support.client import request
from tests.support.gate import Gate
from tests.support.process import Instance
from tests.support.system import is_ready
from tests.support.watched import Watched, WatchedInstances
from tests.support.watching import texts


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


def test_the_end_of_everything_in_a_replica_is_known_to_the_other_replicas() -> None:
    placed: dict[str, Any] = {"SLOW_PORT": free_ports(), "SLOW_PROCESSES": 1}
    with Instance(Pool.SLOW, port=placed["SLOW_PORT"], **placed, FAST_PORT=free_ports(2)) as slow:
        with Watched("die", **placed) as watched:
            watched.process.wait(60)
        (line,) = [text for text in texts(slow.port, "exit") if "shut down" in text]
        assert re.match(r"exit fast:\d+: cannot be kept running: everything here is shut down", line)


def test_where_none_that_was_restarted_comes_back_everything_ends() -> None:
    with Watched("beat") as watched:
        for port, end in zip(watched.ports, ("stays stopped", "everything here is shut down"), strict=True):
            watched.tell_one(port, "beat", "restart", "drain")
            watched.process.wait_for_output(f"fast:fast-{port} was asked to restart: restarting it")
            watched.tell_one(port, "die")
            wait_until(lambda: f"fast:fast-{port} did not come back, and {end}" in watched.process.output, 60)  # noqa: B023  # waits here
        watched.process.wait()


@pytest.mark.parametrize("start_seconds", [60, pytest.param(0, marks=pytest.mark.long)])
def test_requests_that_end_an_instance_again_and_again_never_end_everything(
    tmp_path: Path, start_seconds: int
) -> None:
    with WatchedInstances(APP="tests.apps.edge:make_app", start_seconds=start_seconds) as watched:
        port, _ = watched.ports
        die = Gate(tmp_path / "gate")("/die")

        def has_ended_often() -> bool:
            assert watched.process.running, watched.process.output
            with suppress(OSError):
                request(port, die)
            return watched.ends(port) >= 8

        wait_until(has_ended_often, 110)
        assert "shutting everything down" not in watched.process.output
        wait_until(lambda: is_ready(port))
