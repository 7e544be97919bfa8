"""Refusals: what the log says about the jobs that a full pool refuses."""

import asyncio
import logging

log = logging.getLogger("slowpool")

INTERVAL_SECONDS = 1.0
"""The least time between two lines. The access log has one for each request."""


class Refusals:
    """Logs the first refusal, and the number of those that follow it."""

    def __init__(self) -> None:
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: int) -> None:
        """Note that a job is refused while so many wait."""
        if self._timer:
            self._count += 1
            return
        log.info("the slow pool is full: %d jobs wait, and one is refused", waiting)
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._end)

    def _end(self) -> None:
        count, self._count, self._timer = self._count, 0, None
        if count:
            log.info("the slow pool is full: %d more jobs were refused in %g s", count, INTERVAL_SECONDS)
            self._wait()
