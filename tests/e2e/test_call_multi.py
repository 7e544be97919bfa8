"""The tester client."""

import re
import subprocess
import sys

import pytest

from tests.e2e.system import System
from tests.support import ROOT, free_ports


@pytest.mark.parametrize("route", ["slow", "slow_threaded"])
def test_the_tester_client_shows_all_answers_as_they_return_and_who_came_when(
    system: System, route: str
) -> None:
    done = call_multi(system.port, route, "--n", "3000")
    assert done.returncode == 0, done.stdout
    answers, summary = done.stdout.split("\n\n")
    lines = answers.splitlines()
    assert len(lines) == 23
    for i in range(1, 21):
        assert re.search(rf"^ *\d+\.\d{{3}} s  fast:\d+ +fast result {i}$", answers, re.MULTILINE)
    for i in range(1, 4):
        assert re.search(
            rf"^ *\d+\.\d{{3}} s  slow:\d+ +slow result {i} <--- \d+\.\d{{3}} s$", answers, re.MULTILINE
        )
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    last_fast, first_slow, last_slow = map(float, re.findall(r"(\d+\.\d{3}) s$", summary, re.MULTILINE))
    assert first_slow <= last_slow == times[-1]
    assert last_fast in times


def test_the_tester_client_fails_when_one_request_does(system: System) -> None:
    done = call_multi(system.port, "slow/no_such_strategy")
    assert done.returncode == 1
    assert "3 of 23 requests failed" in done.stdout
    assert "/slow/no_such_strategy?id=1&n=6000: 404 " in done.stdout


def test_the_tester_client_fails_when_nothing_answers() -> None:
    done = call_multi(free_ports(), "slow")
    assert done.returncode == 1
    assert "23 of 23 requests failed" in done.stdout
    assert done.stderr == ""


def call_multi(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tester client against a port."""
    command = [sys.executable, "tests/call_multi.py", *arguments, "--url", f"http://127.0.0.1:{port}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
