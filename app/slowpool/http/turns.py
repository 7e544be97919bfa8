"""Turns: the requests that are ready, one after the other."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

QUICK_SECONDS = 0.001
"""When the last turn took less, the next one takes several requests."""

AT_ONCE = 4
"""How many at most. Each iteration of an event loop has a cost, which they share."""


class Turns:
    """Has the requests handled in the order in which they became ready, one in each iteration of the loop.

    Tornado's handlers are asyncio tasks. Without this, all that became ready in one iteration would run in
    the next one, and timers, answers and other connections would wait for the last of them. Requests that are
    likely to be quick, since those before them were, share a turn; none with a body does.
    """

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[[], None], bool]] = deque()
        self._is_taken = False
        self._began_at = 0.0

    def take(self, handle: Callable[[], None], *, has_body: bool) -> None:
        """Call ``handle``, now or when it is its turn. A task that it starts runs before the next turn."""
        self._ready.append((handle, has_body))
        if not self._is_taken:
            self._begin(1)

    def _begin(self, count: int) -> None:
        self._is_taken = True
        self._began_at = time.monotonic()
        try:
            while count and self._ready:
                handle, has_body = self._ready.popleft()
                handle()
                count -= 1
                if has_body or (self._ready and self._ready[0][1]):
                    break
        finally:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._ready:
            was_quick = time.monotonic() - self._began_at < QUICK_SECONDS
            self._begin(AT_ONCE if was_quick else 1)
        else:
            self._is_taken = False
