"""Turns: the requests that are ready, one after the other."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_SECONDS = 0.005
"""After so much work the event loop gets control: for timers, and for what has arrived meanwhile."""


class Turns:
    """Runs what becomes ready in its order, and lets the event loop go on in between.

    Without it all requests that arrive in the same iteration of the loop would run before any timer.
    """

    def __init__(self) -> None:
        self._ready: deque[Callable[[], None]] = deque()
        self._spent_seconds = 0.0
        self._pauses = False

    def take(self, run: Callable[[], None]) -> None:
        """Call ``run``, now or when it is its turn."""
        if self._pauses:
            self._ready.append(run)
        else:
            self._run(run)

    def _run(self, run: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            run()
        finally:
            self._spent_seconds += time.monotonic() - started
            if self._spent_seconds > TURN_SECONDS:
                self._pauses = True
                asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._pauses = False
        self._spent_seconds = 0.0
        while self._ready and not self._pauses:
            self._run(self._ready.popleft())
