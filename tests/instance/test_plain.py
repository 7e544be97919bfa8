"""The demo's comparison with one plain Tornado process, which a worker starts, asks and ends."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import opened
from tests.support.pool import is_dead
from tests.support.process import Instance

LONG = "/plain?n=20000"
LEFT = (
    "Cannot send error response after headers written|"
    "Uncaught exception GET /plain|^Traceback|StreamClosedError: Stream is closed"
)
"""Tornado's lines when a client has left in the middle of an answer; more of them when in ``flush``."""


@contextmanager
def plain_process(instance: Instance) -> Iterator[psutil.Process]:
    """The process, while it has the requests; its client goes away at the end of the block."""
    with opened(instance.port, LONG) as answer:
        yield psutil.Process(json.loads(answer.readline())["pid"])


def test_every_fast_request_waits_behind_the_slow_ones(demo: Instance) -> None:
    answer = demo.get("/plain?n=4000")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    started, *lines = map(json.loads, answer.text.splitlines())
    assert started.keys() == {"pid"}
    sent, ended = times(lines, "sent"), times(lines, "ended")
    numbers = [("/slow", 3), ("/fast", 20)]
    assert (
        sent.keys() == ended.keys() == {(path, id) for path, count in numbers for id in range(1, count + 1)}
    )
    assert {line.get("status", 200) for line in lines} == {200}
    first, ended_at = min(ended.items(), key=lambda one: one[1])
    assert first[0] == "/slow"
    assert all(sent[key] < ended_at for key in (("/fast", 1), ("/fast", 2), ("/fast", 3)))


def test_it_ends_with_its_job(demo: Instance) -> None:
    pid = json.loads(demo.get("/plain?n=1").text.splitlines()[0])["pid"]
    assert is_dead(pid)


def test_it_is_below_a_worker_and_as_nice_and_only_this_machine_reaches_it() -> None:
    with Instance(Pool.SLOW, SLOW_NICE=7, expected=LEFT) as instance, plain_process(instance) as process:
        (worker,) = set(process.parents()) & set(instance.workers)
        assert process.nice() == worker.nice()
        assert {connection.laddr.ip for connection in process.net_connections()} == {"127.0.0.1"}
        assert any(connection.status == psutil.CONN_LISTEN for connection in process.net_connections())


def test_it_ends_when_its_client_goes_away() -> None:
    with Instance(Pool.SLOW, expected=LEFT) as instance:
        with plain_process(instance) as process:
            assert process.is_running()
        wait_until(lambda: is_dead(process.pid))


def test_it_ends_with_an_instance_that_is_killed() -> None:
    with Instance(Pool.SLOW, ends_with=-signal.SIGKILL) as instance, plain_process(instance) as process:
        instance.signal(signal.SIGKILL)
        wait_until(lambda: is_dead(process.pid))


def test_there_are_no_more_of_them_than_workers() -> None:
    with (
        Instance(Pool.SLOW, SLOW_WORKERS=1, SLOW_QUEUE=0, expected=f"{LEFT}| 503 ") as instance,
        plain_process(instance),
    ):
        assert instance.get(LONG).status == 503


def times(lines: list[dict[str, Any]], which: str) -> dict[tuple[str, int], float]:
    """Path and id of each request -> when it was sent, or ended, in milliseconds."""
    return {
        (line["path"], line["id"]): line["at"] for line in lines if ("status" in line) == (which == "ended")
    }
