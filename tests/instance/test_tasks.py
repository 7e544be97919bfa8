"""The answers of a slow instance over HTTP, whatever the task of a request does."""

import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request, unanswered
from tests.support.process import Instance, runs

LATE = "whose job is late"
EXPECTED = (
    rf"{LATE}|worker \d+ (was killed|exited)|Uncaught exception|Error|Traceback| 50[024] GET|not logged"
)
"""What the log of an instance whose tasks misbehave may have."""


@pytest.fixture(scope="module")
def zoo() -> Iterator[Instance]:
    with Instance(
        Pool.SLOW,
        APP="tests.apps.misbehaving:make_app",
        MAX_BODY_BYTES=64 << 20,
        SLOW_MAX_MEMORY_BYTES=1 << 30,
        expected=EXPECTED,
    ) as instance:
        yield instance


@pytest.mark.parametrize(
    ("task", "status"),
    [
        ("sleeps_for_ever", 504),
        ("spins_for_ever", 504),
        ("holds_the_interpreter_lock_for_ever", 504),
        ("ignores_sigterm", 504),
        ("changes_signal_handlers", 200),
        ("exits", 502),
        ("asks_the_system_to_exit", 502),
        ("segfaults", 502),
        ("recurses", 500),
        ("allocates", 500),
        ("prints_garbage", 200),
        ("returns_what_cannot_be_pickled", 500),
        ("raises_what_cannot_be_pickled", 500),
        ("raises_an_awkward_error", 500),
        ("raises", 500),
    ],
)
def test_after_a_request_whose_task_misbehaves_the_next_is_right(
    zoo: Instance, task: str, status: int
) -> None:
    headers = {"Prefer": "wait=1"} if status == 504 else {}
    response = request(zoo.port, f"/slow/zoo/{task}", headers=headers)
    assert response.status == status
    assert "Traceback" not in response.text, "DEBUG is off"
    if status in (502, 504):
        response.problem()
    assert re.fullmatch(r"queue;dur=[0-9.]+, run;dur=[0-9.]+", response.headers["Server-Timing"])
    assert zoo.get("/slow/zoo/own_pid").status == 200


def test_fifty_megabytes_go_to_a_task_and_come_back(zoo: Instance) -> None:
    body = b"0123456789" * 5_000_000
    assert zoo.get("/slow/zoo/echoes", "POST", body).body == body


def test_an_argument_that_cannot_be_pickled_is_named(zoo: Instance) -> None:
    response = zoo.get("/slow/lock")
    assert response.status == 500
    assert "an argument of add, of type _thread.lock" in response.problem()["detail"]


def test_a_job_whose_worker_died_says_so_and_not_how(zoo: Instance) -> None:
    response = zoo.get("/slow/zoo/segfaults")
    assert response.status == 502
    assert "SIGSEGV" not in response.problem()["detail"]
    assert response.headers["Retry-After"] is None


def test_a_handler_can_catch_what_its_task_raised(zoo: Instance) -> None:
    assert zoo.get("/slow/caught").text == "caught mine"


def test_a_dead_worker_is_logged_with_its_pid_and_signal(zoo: Instance) -> None:
    pid = zoo.get("/slow/zoo/own_pid").text
    zoo.get("/slow/zoo/segfaults")
    assert re.search(rf"worker {pid} was killed by SIGSEGV", zoo.output)


def test_a_client_can_shorten_the_deadline(background: ThreadPoolExecutor) -> None:
    with Instance(
        Pool.SLOW, APP="tests.apps.misbehaving:make_app", SLOW_WORKERS=2, expected=LATE
    ) as instance:
        for response in sleeping(instance, background, "wait=1", "return=minimal, wait=1; x"):
            assert response.status == 504, "long before the 60 s of the instance"
            assert response.headers["Preference-Applied"] == "wait=1"


def test_a_client_cannot_lengthen_the_deadline(background: ThreadPoolExecutor) -> None:
    with Instance(
        Pool.SLOW,
        APP="tests.apps.misbehaving:make_app",
        SLOW_WORKERS=2,
        SLOW_TIMEOUT_SECONDS=1,
        expected=LATE,
    ) as instance:
        for response in sleeping(instance, background, "wait=600", "wait=soon"):
            assert response.status == 504, "long before the 600 s of the client"
            assert response.headers["Preference-Applied"] is None


def test_a_full_pool_refuses_with_retry_after_and_the_loop_stays_free() -> None:
    with Instance(Pool.SLOW, APP="tests.apps.misbehaving:make_app", SLOW_WORKERS=1, SLOW_QUEUE=0) as instance:
        (worker,) = instance.workers
        with unanswered(instance.port, "/slow/zoo/spins_for_ever"):
            wait_until(lambda: worker.cpu_times().user > 0.1)
            refused = instance.get("/slow/zoo/own_pid")
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) in range(1, 61)
            assert "the slow pool is full: 0 jobs wait" in refused.problem()["detail"]
            assert instance.get("/-/livez").status == 200


def test_the_worker_of_a_client_that_went_away_is_killed_with_its_children(tmp_path: Path) -> None:
    with Instance(Pool.SLOW, APP="tests.apps.misbehaving:make_app", SLOW_WORKERS=1) as instance:
        (worker,) = instance.workers
        with socket.create_connection(("127.0.0.1", instance.port)) as client:
            client.sendall(f"GET /slow/children?file={tmp_path}/pids HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until((tmp_path / "pids").exists)
            children = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
            # Reset rather than closed: the worst way to go.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for process in (worker, *children):
            wait_until(lambda process=process: not runs(process))  # type: ignore[misc]  # mypy: default
        instance.wait_for_output(" 499 GET /slow/children")
        assert instance.get("/slow/zoo/own_pid").status == 200


def test_an_instance_that_is_killed_leaves_no_process_of_its_own_nor_of_its_tasks(tmp_path: Path) -> None:
    with Instance(
        Pool.SLOW, APP="tests.apps.misbehaving:make_app", SLOW_WORKERS=2, ends_with=-signal.SIGKILL
    ) as instance:
        processes = [*instance.workers, instance.template]
        assert len(processes) == 3
        with unanswered(instance.port, f"/slow/children?file={tmp_path}/pids"):
            wait_until((tmp_path / "pids").exists)
            processes += [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
            assert len(processes) == 5
            os.kill(instance.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(runs, processes)))


def test_what_a_task_prints_has_the_request_id_in_the_log(zoo: Instance) -> None:
    request(zoo.port, "/slow/say?text=good+morning", headers={"X-Request-ID": "the-id"})
    zoo.wait_for_output(r"\[the-id\] worker \d+: good morning")


def sleeping(instance: Instance, background: ThreadPoolExecutor, *preferences: str) -> list[Response]:
    """The answers to requests for a long sleep, sent at once, each with a Prefer header."""
    target = "/slow/sleep?seconds=1000"
    sent = [
        background.submit(request, instance.port, target, headers={"Prefer": preference}, timeout=50)
        for preference in preferences
    ]
    return [future.result() for future in sent]
