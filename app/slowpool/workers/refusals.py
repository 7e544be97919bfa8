"""Refusals: what the log and the events say about the jobs that a full pool refuses."""

import asyncio
import logging
import math
import time

from slowpool.observe.events import Events

log = logging.getLogger("slowpool")

INTERVAL_SECONDS = 1.0
"""The least time between two lines. The access log has one for each request."""

QUIET_SECONDS = 60.0
"""After so long without a refusal the next one is an event."""


class Refusals:
    """Logs the first refusal, and the number of those that follow it; the first one of many is an event."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._all = 0
        self._last_at = -math.inf
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: int) -> None:
        """Note that a job is refused while so many wait."""
        now = time.monotonic()
        quiet, self._last_at, self._all = now - self._last_at > QUIET_SECONDS, now, self._all + 1
        if quiet:
            so_far = f"{self._all} refused since the start"
            self._events.add("full", f"refuses jobs: {waiting} wait, which is SLOW_QUEUE; {so_far}")
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
