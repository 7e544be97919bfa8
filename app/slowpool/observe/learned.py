"""LearnedRoutes: the routes that have blocked a fast instance, and go to the slow pool for a while."""

import time
from dataclasses import dataclass


@dataclass
class Learned:
    """A route that blocked: for how long at most, at which line, and until when it is handed over.

    ``until`` is on the monotonic clock.
    """

    seconds: float
    line: str
    until: float


class LearnedRoutes:
    """``for_seconds`` after a block, the requests of its route are not handed over any more; 0: never."""

    def __init__(self, for_seconds: float) -> None:
        self._for_seconds = for_seconds
        self._routes: dict[str, Learned] = {}

    def __contains__(self, route: str) -> bool:
        learned = self._routes.get(route)
        return learned is not None and learned.until > time.monotonic()

    def current(self) -> dict[str, Learned]:
        """The routes that are handed over now."""
        return {route: learned for route, learned in self._routes.items() if route in self}

    def add(self, route: str, seconds: float, line: str) -> bool:
        """Note that a handler of the route has blocked; returns whether it is handed over from now on."""
        if not route or not self._for_seconds:
            return False
        self._routes[route] = Learned(seconds, line, time.monotonic() + self._for_seconds)
        return True
