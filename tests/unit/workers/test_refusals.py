"""What the log says about the jobs that a full pool refuses."""

import asyncio

import pytest

from slowpool.workers import refusals
from slowpool.workers.refusals import Refusals


def test_the_first_refusal_has_a_line_and_those_after_it_one_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "INTERVAL_SECONDS", 0.01)
    caplog.set_level("INFO", "slowpool")

    async def main() -> None:
        refused = Refusals()
        for _ in range(3):
            for waiting in (5, 6, 7):
                refused.add(waiting)
            while refused._timer:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    first = "the slow pool is full: 5 jobs wait, and one is refused"
    assert caplog.messages == [first, "the slow pool is full: 2 more jobs were refused in 0.01 s"] * 3
