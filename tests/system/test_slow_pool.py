"""The slow pool behind nginx: clients that go away, and instances that are killed."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.basics import wait_until
from tests.support.client import exchange
from tests.support.pool import is_dead
from tests.support.process import TEMPLATE, WORKER, below, runs
from tests.support.system import System


@pytest.fixture(scope="module")
def zoo() -> Iterator[System]:
    with System(
        APP="tests.apps.misbehaving:make_app", SLOW_PROCESSES=1, SLOW_WORKERS=1, SLOW_QUEUE=2
    ) as system:
        yield system


def test_a_client_that_goes_away_frees_the_worker_and_all_that_it_has_started(
    zoo: System, tmp_path: Path
) -> None:
    before = zoo.get("/slow/zoo/own_pid").text
    url = f"http://127.0.0.1:{zoo.port}/slow/children?file={tmp_path}/pids"
    curl = subprocess.Popen(["curl", "--silent", "--header", "X-Request-ID: gone", url])
    wait_until((tmp_path / "pids").exists)
    children = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    curl.kill()
    curl.wait()
    for pid in (int(before), *children):
        wait_until(lambda pid=pid: is_dead(pid))  # type: ignore[misc]  # mypy: the default's type
    assert zoo.access_log("gone")["status"] == 499
    zoo.wait_for_output('whose job was given up".*"gone"')
    assert zoo.get("/slow/zoo/own_pid").text != before


def test_a_waiting_request_whose_client_goes_away_leaves_the_queue(zoo: System, tmp_path: Path) -> None:
    with ask(zoo, f"/slow/children?file={tmp_path}/pids"):
        wait_until((tmp_path / "pids").exists)  # it runs; there is one worker
        with ask(zoo, "/slow/zoo/own_pid"), ask(zoo, "/slow/zoo/own_pid"):
            wait_until(lambda: zoo.get("/slow/zoo/own_pid", headers={"Prefer": "wait=0"}).status == 503)
        # Both have gone, so there is a place: a job that may not wait is late, and not refused.
        wait_until(lambda: zoo.get("/slow/zoo/own_pid", headers={"Prefer": "wait=0"}).status == 504)
    wait_until(lambda: zoo.get("/slow/zoo/own_pid").status == 200)


def test_the_request_id_of_the_edge_stands_in_the_workers_lines(zoo: System) -> None:
    zoo.get("/slow/say?text=hello", headers={"X-Request-ID": "from-the-edge"})
    zoo.wait_for_output(r"worker \d+: hello.*from-the-edge")
    assert zoo.access_log("from-the-edge")["path"] == "/slow/say"


def test_an_instance_that_is_killed_leaves_no_worker_and_comes_back(zoo: System) -> None:
    (port,) = zoo.instances("slow")
    pid = zoo.pid_of("slow", port)
    processes = [*below(pid, WORKER), *below(pid, TEMPLATE)]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(runs, processes)))
    wait_until(lambda: zoo.get("/slow/zoo/own_pid").status == 200)
    assert zoo.pid_of("slow", port) != pid


def test_a_request_of_http_1_0_without_a_host_is_answered(zoo: System) -> None:
    assert exchange(zoo.port, b"GET /slow/zoo/own_pid HTTP/1.0\r\n\r\n").status == 200


def ask(system: System, target: str) -> socket.socket:
    """Send a request and keep its connection, which is closed at the end of the block."""
    connection = socket.create_connection(("127.0.0.1", system.port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection
