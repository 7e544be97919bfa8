"""What happens when a part of a system dies or hangs, and others go on."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.client import refuses
from tests.support.system import ONE_EACH, System


@pytest.mark.slow
def test_a_fast_instance_that_hangs_is_killed_and_replaced(sturdy: System) -> None:
    port = sturdy.instances("fast")[0]
    hung = sturdy.pid_of("fast", port)
    os.kill(hung, signal.SIGSTOP)
    sturdy.wait_for_output(rf"fast:fast-{port} has not answered for 10 s: killing it")
    wait_until_replaced(sturdy, port, hung)


def test_no_get_fails_while_instances_are_killed_one_after_the_other(
    sturdy: System, background: ThreadPoolExecutor
) -> None:
    with Clients(sturdy, background, "GET", "GET", "GET") as clients:
        for port in sturdy.instances("fast"):
            killed = sturdy.pid_of("fast", port)
            os.kill(killed, signal.SIGKILL)
            wait_until_replaced(sturdy, port, killed)
        assert clients.statuses() == [{200}] * 3


def test_an_instance_that_stops_and_starts_again_loses_no_request(
    sturdy: System, background: ThreadPoolExecutor
) -> None:
    with Clients(sturdy, background, "GET", "POST") as clients:
        for port in sturdy.instances("fast"):
            stopped = sturdy.pid_of("fast", port)
            assert sturdy.supervisor("stopProcess", f"fast:fast-{port}")
            assert sturdy.supervisor("startProcess", f"fast:fast-{port}")
            wait_until_replaced(sturdy, port, stopped)
        assert clients.statuses() == [{200}] * 2


def test_a_worker_of_nginx_that_is_killed_costs_no_later_request(sturdy: System) -> None:
    master = psutil.Process(int(sturdy.program("nginx")["pid"]))
    workers = master.children()
    for worker in workers:
        worker.kill()
    wait_until(lambda: not set(master.children()) & set(workers) and len(master.children()) == len(workers))
    assert {sturdy.get("/echo").status for _ in range(10)} == {200}


def test_two_copies_run_side_by_side_and_one_outlives_the_other(system: System) -> None:
    with System(**ONE_EACH) as other:
        for copy in (system, other):
            for pool, target in (("fast", "/fast?id=7"), ("slow", "/slow_threaded?id=7&n=9")):
                port = int(copy.get(target).headers["X-Served-By"].partition(":")[2])
                assert port in copy.instances(pool)
    assert refuses(other.port)
    assert system.get("/fast?id=7").status == 200
    assert system.get("/slow_threaded?id=7&n=9").status == 200


class Clients:
    """Threads that each ask the fast pool without a pause."""

    def __init__(self, system: System, background: ThreadPoolExecutor, *methods: str) -> None:
        self._system = system
        self._stopped = False
        self._asking = [background.submit(self._ask, method) for method in methods]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped = True

    def statuses(self) -> list[set[int]]:
        """Stop, and say which statuses each has seen in how ever many answers, at least 50."""
        self._stopped = True
        seen = [asking.result() for asking in self._asking]
        assert min(map(len, seen)) > 50
        return [set(statuses) for statuses in seen]

    def _ask(self, method: str) -> list[int]:
        body = b"x" if method == "POST" else None
        seen = []
        while not self._stopped:
            seen.append(self._system.get("/body", method, body=body).status)
        return seen


def wait_until_replaced(system: System, port: int, pid: int) -> None:
    """Wait until a fast instance has another process, which nginx gives requests."""
    wait_until(lambda: system.pid_of("fast", port) not in (0, pid))
    wait_until(lambda: system.get("/body").headers["X-Served-By"] == f"fast:{port}")
