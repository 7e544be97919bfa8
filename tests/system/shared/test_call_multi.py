"""The tester client."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.strategies import PoolTestHandler, routes
from tests.support.basics import ROOT, free_ports
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.process import Instance
from tests.support.system import ONE_EACH, System

STRATEGIES = [path.lstrip("/") for path, handler in routes if handler is not PoolTestHandler]
STRATEGIES.remove("stall")  # it blocks fast instances first
SIZE = 3000
"""Of the slow work: about 0.2 s."""


@pytest.mark.alone
@pytest.mark.parametrize("route", STRATEGIES)
def test_all_fast_answers_come_before_the_first_slow_one(
    system: System, route: str, call_multi_runs: int
) -> None:
    for _ in range(call_multi_runs):
        done = call_multi(system.port, route, "--n", str(SIZE))
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
        last_fast, first_slow, last_slow = summary_times(summary)
        assert last_fast < first_slow <= last_slow == times[-1], done.stdout


@pytest.mark.alone
def test_a_route_that_has_blocked_each_fast_instance_holds_up_no_fast_answer(
    system: System, call_multi_runs: int
) -> None:
    for _ in range(call_multi_runs):
        done = call_multi(system.port, "stall")
        assert done.returncode == 0, done.stdout
        learning, answers, summary = done.stdout.split("\n\n")
        blocked = re.findall(r"s  fast:(\d+) ", learning)
        assert len(blocked) == len({*blocked}), "an instance is blocked once"
        assert len(re.findall(r"s  slow:\d+ +slow result [1-4] <--- ", answers)) == 4
        assert len(re.findall(r"s  fast:\d+ +fast result ", answers)) == 20
        last_fast, first_slow, _ = summary_times(summary)
        assert last_fast < first_slow, done.stdout


@pytest.mark.alone
def test_one_process_that_computes_inline_holds_up_fast_answers(call_multi_runs: int) -> None:
    with Instance(expected="/slow blocked its instance") as instance:
        for _ in range(call_multi_runs):
            done = call_multi(instance.port, "slow", "--n", str(SIZE))
            assert done.returncode == 0, done.stdout
            last_fast, first_slow, _ = summary_times(done.stdout)
            assert last_fast > first_slow, done.stdout


@pytest.mark.alone
def test_one_process_with_workers_does_not_hold_them_up(call_multi_runs: int) -> None:
    with Instance() as instance:
        for _ in range(call_multi_runs):
            done = call_multi(instance.port, "slow_threaded", "--n", str(SIZE))
            assert done.returncode == 0, done.stdout
            last_fast, first_slow, _ = summary_times(done.stdout)
            assert last_fast < first_slow, done.stdout


def test_the_tester_client_fails_when_one_request_does(system: System) -> None:
    done = call_multi(system.port, "slow/no_such_strategy")
    assert done.returncode == 1
    assert "3 of 23 requests failed" in done.stdout
    assert "/slow/no_such_strategy?id=1&n=6000: 404 " in done.stdout


@needs_openssl
def test_the_tester_client_speaks_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    with System(TLS_CERTIFICATE=certificate, TLS_KEY=key, **ONE_EACH) as secure:
        url = f"https://localhost:{secure.settings['HTTPS_PORT']}"
        done = call_multi(0, "slow_threaded", "--n", str(SIZE), "--insecure", url=url)
        assert done.returncode == 0, done.stdout
        done = call_multi(0, "slow_threaded", url=url)
        assert done.returncode == 1
        assert "certificate verify failed" in done.stdout
        assert done.stderr == ""


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://localhost:http"])
def test_the_tester_client_refuses_what_is_no_url_of_the_web(url: str) -> None:
    done = call_multi(0, "slow", url=url)
    assert done.returncode == 2
    assert url in done.stderr or "http" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tester_client_fails_when_nothing_answers() -> None:
    done = call_multi(free_ports(), "slow")
    assert done.returncode == 1
    assert "23 of 23 requests failed" in done.stdout
    assert done.stderr == ""


def summary_times(printed: str) -> list[float]:
    """When the last fast, the first slow and the last slow answer came."""
    return [float(seconds) for seconds in re.findall(r"result +(\d+\.\d{3}) s$", printed, re.MULTILINE)]


def call_multi(port: int, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tester client against a port, or a URL."""
    command = [sys.executable, "tests/call_multi.py", *arguments, "--url", url or f"http://127.0.0.1:{port}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
