"""Turns: the requests that are ready, one after the other."""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Has one request handled in each iteration of the event loop, in the order in which they became ready.

    Tornado's handlers are asyncio tasks. Without this, all that became ready in one iteration would run in
    the next one, and timers, answers and other connections would wait for the last of them.
    """

    def __init__(self) -> None:
        self._ready: deque[Callable[[], None]] = deque()
        self._is_taken = False

    def take(self, handle: Callable[[], None]) -> None:
        """Call ``handle``, now or when it is its turn. A task that it starts runs before the next turn."""
        if self._is_taken:
            self._ready.append(handle)
        else:
            self._run(handle)

    def _run(self, handle: Callable[[], None]) -> None:
        self._is_taken = True
        try:
            handle()
        finally:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._ready:
            self._run(self._ready.popleft())
        else:
            self._is_taken = False
