"""Answers that are sent in parts, through nginx."""

import http.client
from collections.abc import Iterator

import pytest

from tests.apps.streams import PART
from tests.support.basics import wait_until
from tests.support.client import opened, unanswered
from tests.support.gate import Gate
from tests.support.system import System

STREAMS = "tests.apps.streams:make_app"


@pytest.fixture(scope="module")
def streams() -> Iterator[System]:
    with System(APP=STREAMS, STREAM_DRAIN_SECONDS=1, SLOW_PROCESSES=1) as system:
        yield system


@pytest.mark.parametrize("prefix", ["", "/slow"])
def test_each_event_arrives_before_the_next_one_is_sent(streams: System, gate: Gate, prefix: str) -> None:
    with opened(streams.port, gate(f"{prefix}/events")) as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        assert events.headers["X-Accel-Buffering"] is None
        for number in range(5):
            if number:
                (gate.folder / f"next-{number - 1}").touch()
            assert events.readline() == f"data: {number}\n".encode()
            assert events.readline() == b"\n"


def test_the_client_that_leaves_a_stream_is_noticed(streams: System, gate: Gate) -> None:
    with unanswered(streams.port, gate("/left")):
        gate.wait_for(1)
    wait_until((gate.folder / "gone").exists)


def test_a_rolling_restart_cuts_open_streams_and_finishes_a_download(streams: System, gate: Gate) -> None:
    with opened(streams.port, f"{gate('/download')}&parts=3") as download:
        gate.wait_for(1)
        with opened(streams.port, gate("/events")) as events, opened(streams.port, gate("/polite")) as polite:
            assert events.readline() == polite.readline() == b"data: 0\n"
            ports = streams.instances("fast")
            for port in ports:
                assert streams.supervisor("signalProcess", f"fast:fast-{port}", "TERM")
            assert polite.read() == b"\ndata: bye\n\n"
            with pytest.raises(http.client.IncompleteRead):
                events.read()
            streams.wait_for_output("cuts 1 streams after 1 s")
        gate.open()
        assert download.read() == PART * 3
