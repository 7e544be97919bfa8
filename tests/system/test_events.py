"""What happens in the whole system is known to all instances, and outlives their restarts."""

import json
import os
import re
import signal
import subprocess

from slowpool.observe.heartbeat import BEAT
from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.system import System
from tests.support.watching import answered, events, texts


def ports(system: System) -> list[int]:
    return [*system.instances("fast"), *system.instances("slow")]


def same_everywhere(system: System) -> bool:
    """Whether all instances know the same events."""
    known = [{event["id"] for event in events(port)} for port in ports(system)]
    return all(ids == known[0] for ids in known)


def run(system: System, *command: str) -> str:
    """What a command prints that finds the system by its port."""
    environment = {**os.environ, "HTTP_PORT": str(system.port)}
    done = subprocess.run(
        [ROOT / command[0], *command[1:]],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_rolling_restart_is_known_to_all_and_changes_no_total() -> None:
    with System() as system:
        for _ in range(20):
            assert system.get("/fast?id=7").status == 200
            assert system.get("/slow_threaded?id=7&n=9").status == 200
        for pool in ("fast", "slow"):
            wait_until(lambda: answered(system.settings, pool) == 20)  # noqa: B023  # waits here
        wait_until(lambda: len(events(ports(system)[0], "ready")) == 4)
        before = events(ports(system)[0])
        run(system, "deploy/rolling-restart")
        wait_until(lambda: same_everywhere(system))
        after = events(ports(system)[0])
        assert after[-len(before) :] == before, "those of before are still there"
        told = texts(ports(system)[0])[: -len(before)][::-1]
        assert told[0] == "roll : begins to restart 4 instances, one at a time"
        assert told[-1] == "roll : has restarted 4 instances"
        for number, port in enumerate(ports(system)):
            name = f"{'fast' if number < 2 else 'slow'}:{port}"
            assert f"restart {name}: is restarted, {number + 1} of 4" in told
            assert any(text.startswith(f"drain {name}: drains ") for text in told)
            assert any(re.match(rf"ready {name}: is ready again, [\d.]+ s after", text) for text in told)
        for pool in ("fast", "slow"):
            wait_until(lambda: answered(system.settings, pool) == 20)  # noqa: B023


def test_one_that_is_killed_is_an_event_and_knows_all_of_them_again() -> None:
    http_port, port = free_ports(), free_ports(2)
    folder = ROOT / ".run" / str(http_port)
    folder.mkdir(parents=True)
    (folder / f"heartbeat-{port}").write_bytes(BEAT.pack(1.0, 1))  # of a run before this one
    with System(FAST_PROCESSES=1, HTTP_PORT=http_port, SLOW_PORT=port) as system:
        wait_until(lambda: len(events(port, "ready")) == 3)
        assert not any("again" in text for text in texts(port, "ready"))
        pid = system.pid_of("slow", port)
        os.kill(pid, signal.SIGKILL)
        (exited,) = wait_until(lambda: texts(system.instances("fast")[0], "exit"))
        assert exited.startswith(f"exit slow:{port}: ")
        assert f"process {pid} has ended" in exited or "right after its start" in exited
        wait_until(lambda: len(events(system.instances("fast")[0], "ready")) == 4)
        wait_until(lambda: same_everywhere(system))
        shown = run(system, ".venv/bin/python", "-m", "slowpool", "status")
        assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d exit slow:{port}: ", shown, re.MULTILINE)
        content = json.loads(run(system, ".venv/bin/python", "-m", "slowpool", "status", "--json"))
        assert content["events"] == events(system.instances("fast")[0])
