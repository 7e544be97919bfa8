"""slowpool.stream in a handler, over HTTP and a WebSocket."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.websocket import websocket_connect

from slowpool.config import Pool
from tests.apps.rows import BLOCK
from tests.support.basics import wait_until
from tests.support.client import opened
from tests.support.gate import Gate
from tests.support.pool import is_dead
from tests.support.process import Instance

ROWS = "tests.apps.rows:make_app"
FAILED = "Uncaught exception|Cannot send error response|^Traceback|ValueError|WorkerTraceback"

MEGABYTES = 200
BUFFERED_MEGABYTES = 30
"""More than sockets and the instance hold of an answer."""


@pytest.fixture(scope="module")
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP=ROWS, SLOW_WORKERS=2, expected=FAILED) as instance:
        yield instance


def allow(gate: Gate, number: int) -> None:
    """Let the task make this row."""
    (gate.folder / f"next-{number}").touch()


def test_each_row_arrives_when_the_task_has_made_it(slow: Instance, gate: Gate) -> None:
    allow(gate, 0)
    with opened(slow.port, gate("/slow/rows")) as answer:
        assert answer.readline() == b"row 0\n"
        allow(gate, 1)
        assert answer.readline() == b"row 1\n"
        allow(gate, 2)
        assert answer.read() == b"row 2\n"


def test_a_slow_reader_makes_the_task_wait(slow: Instance, gate: Gate, tmp_path: Path) -> None:
    other = Gate(tmp_path / "other")
    target = f"&count={MEGABYTES}"
    with opened(slow.port, gate("/slow/blocks") + target) as answer:
        # As much as it would take the first task to make all of its own.
        assert len(slow.get(other("/slow/blocks") + target).body) == MEGABYTES * len(BLOCK)
        assert 0 < made(gate) < BUFFERED_MEGABYTES
        assert len(answer.read()) == MEGABYTES * len(BLOCK)
    assert made(gate) == MEGABYTES


def test_a_gigabyte_passes_an_instance_in_little_memory(gate: Gate) -> None:
    with Instance(Pool.SLOW, APP=ROWS, SLOW_WORKERS=1) as instance:
        with opened(instance.port, f"{gate('/slow/blocks')}&count=1024") as answer:
            size = 0
            while data := answer.read(1 << 20):
                size += len(data)
        assert size == 1 << 30
        assert peak_bytes(instance.pid) < 120 << 20
        (worker,) = instance.workers
        assert peak_bytes(worker.pid) < 120 << 20


def test_the_worker_of_a_stream_whose_client_has_gone_is_killed(slow: Instance, gate: Gate) -> None:
    allow(gate, 0)
    with opened(slow.port, gate("/slow/rows")) as answer:
        assert answer.readline() == b"row 0\n"
    (worker,) = gate.entered
    wait_until(lambda: is_dead(worker))
    wait_until(lambda: len(slow.workers) == 2)


def test_the_worker_of_a_stream_that_a_handler_leaves_is_killed(slow: Instance, gate: Gate) -> None:
    allow(gate, 0)
    assert slow.get(gate("/slow/early")).text == "row 0\n"
    (worker,) = gate.entered
    wait_until(lambda: is_dead(worker))


def test_an_error_in_the_middle_cuts_the_answer_after_the_rows_before_it(slow: Instance) -> None:
    with opened(slow.port, "/slow/breaks") as answer, pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial == b"".join(b"row %d\n" % number for number in range(10))
    slow.wait_for_output("ValueError: no more rows")


def test_a_handler_can_catch_the_error_of_a_task_and_end_its_answer(slow: Instance) -> None:
    lines = slow.get("/slow/breaks?catch=1").text.splitlines()
    assert lines == [*(f"row {number}" for number in range(10)), "no more rows"]


def test_a_fast_instance_hands_over_a_request_that_streams(gate: Gate) -> None:
    with Instance(Pool.FAST, APP=ROWS) as instance:
        answer = instance.get(gate("/rows"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-Accel-Redirect"] == "@handed_over"
    assert gate.entered == []


def test_two_streams_of_a_request_run_at_once(slow: Instance, gate: Gate) -> None:
    rows = json.loads(slow.get(gate("/slow/both")).text)["rows"]
    assert rows == [["a 0", "a 1"], ["b 0", "b 1"]]
    assert len(set(gate.entered)) == 2


def test_a_websocket_gets_rows_and_its_worker_ends_with_it(slow: Instance, gate: Gate) -> None:
    async def talk() -> None:
        client = await websocket_connect(f"ws://127.0.0.1:{slow.port}/slow/socket")
        await client.write_message(str(gate.folder))
        for number in range(2):
            allow(gate, number)
            assert await client.read_message() == f"row {number}\n"
        assert client.protocol
        stream = client.protocol.stream
        assert stream
        client.close()  # sends a close frame, as a browser does whose page is left
        await asyncio.to_thread(slow.get, "/-/livez")  # the instance has that frame now
        stream.close()

    asyncio.run(talk())
    (worker,) = gate.entered
    wait_until(lambda: is_dead(worker))


def made(gate: Gate) -> int:
    """How many megabytes the task of ``/slow/blocks`` has made."""
    return (gate.folder / "made").stat().st_size


def peak_bytes(pid: int) -> int:
    """The most that a process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
