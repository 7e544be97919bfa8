"""Answers that are sent in parts, while their instance runs and while it drains."""

import http.client
from typing import Any

import pytest

from slowpool.config import Pool
from tests.apps.streams import PART
from tests.support.basics import wait_until
from tests.support.client import opened, received, unanswered
from tests.support.gate import Gate
from tests.support.process import Instance

STREAMS = "tests.apps.streams:make_app"
LEFT = "Cannot send error response after headers written"
"""What Tornado logs of a handler that still runs when its instance ends."""


def test_an_answer_that_is_flushed_before_it_is_finished_is_not_to_be_buffered(gate: Gate) -> None:
    gate.open()
    with Instance(Pool.FAST, APP=STREAMS, expected=LEFT) as instance:
        with opened(instance.port, gate("/events")) as events:
            assert events.headers["X-Accel-Buffering"] == "no"
            assert events.headers["Transfer-Encoding"] == "chunked"
            assert events.readline() == b"data: 0\n"
        assert instance.get("/whole").headers["X-Accel-Buffering"] is None
        assert instance.get(f"{gate('/download')}&parts=2").headers["X-Accel-Buffering"] is None
        assert instance.get("/buffering").headers.get_all("X-Accel-Buffering") == ["yes"]


@pytest.mark.parametrize("pool", list(Pool))
def test_a_stream_that_waits_for_the_drain_ends_with_all_that_it_has_to_say(pool: Pool, gate: Gate) -> None:
    with Instance(pool, APP=STREAMS) as instance:
        with opened(instance.port, gate("/polite")) as events:
            assert events.readline() == b"data: 0\n"
            instance.terminate()
            assert events.read() == b"\ndata: bye\n\n"
        assert instance.wait() == 0
        assert "cuts" not in instance.output


def test_an_endless_stream_of_the_fast_pool_is_cut_while_a_download_goes_on(gate: Gate) -> None:
    with Instance(Pool.FAST, APP=STREAMS, STREAM_DRAIN_SECONDS=1) as instance:
        with (
            opened(instance.port, f"{gate('/download')}&parts=3") as download,
            opened(instance.port, gate("/events")) as events,
        ):
            assert events.readline() == b"data: 0\n"
            instance.terminate()
            with pytest.raises(http.client.IncompleteRead):
                events.read()
            instance.wait_for_output("cuts 1 streams after 1 s")
            assert instance.running
            gate.open()
            assert download.read() == PART * 3
        assert instance.wait() == 0


def test_a_stream_that_begins_while_its_instance_drains_is_cut_too(gate: Gate) -> None:
    with Instance(Pool.FAST, APP=STREAMS, STREAM_DRAIN_SECONDS=1, expected=LEFT) as instance:
        kept = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=30)
        kept.request("GET", "/whole")
        assert received(kept.getresponse()).text == "whole"
        with opened(instance.port, gate("/events")) as events:
            assert events.readline() == b"data: 0\n"
            instance.terminate()
            instance.wait_for_output("cuts 1 streams after 1 s")
        kept.request("GET", gate("/events"))
        with kept.getresponse() as late, pytest.raises(http.client.IncompleteRead):
            late.read()
        assert instance.wait() == 0
        assert instance.output.count("cuts 1 streams after 1 s") == 2
        assert "connections after" not in instance.output, "before its drain timeout"


def test_a_stream_of_the_slow_pool_may_take_the_whole_drain_timeout(gate: Gate) -> None:
    settings: dict[str, Any] = {
        "STREAM_DRAIN_SECONDS": 0,
        "SLOW_TIMEOUT_SECONDS": 1,
        "DRAIN_TIMEOUT_SECONDS": 4,
    }
    expected = f"cuts 1 connections after 4 s|{LEFT}"
    with Instance(Pool.SLOW, APP=STREAMS, expected=expected, **settings) as instance:
        with opened(instance.port, gate("/slow/events")) as events:
            assert events.readline() == b"data: 0\n"
            instance.terminate()
            instance.wait_for_output("drains 1 connections")
            (gate.folder / "next-0").touch()
            assert events.readline() == b"\n"
            assert events.readline() == b"data: 1\n"
            instance.wait_for_output("cuts 1 connections after 4 s")
        assert instance.wait() == 0


def test_the_client_of_a_stream_that_goes_away_is_noticed_without_super(gate: Gate) -> None:
    with Instance(Pool.FAST, APP=STREAMS) as instance:
        with unanswered(instance.port, gate("/left")):
            gate.wait_for(1)
        wait_until((gate.folder / "gone").exists)
        instance.wait_for_output(r" (200|499) GET /left ")
