"""What the log and the events say about the jobs that a full pool refuses."""

import asyncio

import pytest

from slowpool.observe.events import Events
from slowpool.workers import refusals
from slowpool.workers.refusals import Refusals


def test_the_first_refusal_has_a_line_and_those_after_it_one_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "INTERVAL_SECONDS", 0.01)
    caplog.set_level("INFO", "slowpool")

    async def main() -> None:
        refused = Refusals(Events())
        for _ in range(3):
            for waiting in (5, 6, 7):
                refused.add(waiting)
            while refused._timer:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    first = "the slow pool is full: 5 jobs wait, and one is refused"
    assert caplog.messages == [first, "the slow pool is full: 2 more jobs were refused in 0.01 s"] * 3


def test_a_refusal_after_a_quiet_minute_is_an_event_that_counts_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("slowpool.workers.refusals.time.monotonic", lambda: now[0])

    async def main() -> Events:
        events = Events("slow:8101")
        refused = Refusals(events)
        for seconds in (0, 1, 59, 61, 1):
            now[0] += seconds
            refused.add(8)
        return events

    last, first = asyncio.run(main()).newest()
    assert (first["kind"], first["instance"]) == ("full", "slow:8101")
    assert "1 refused" in first["text"]
    assert "4 refused" in last["text"]
