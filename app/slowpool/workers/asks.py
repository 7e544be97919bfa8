"""Asks: when a slow instance has nginx ask all of them for one that can take a request."""

import time
from collections.abc import Container

from slowpool.workers.pool import WorkerPool

IDLE = "idle"
"""Asks for an idle worker."""

PLACE = "place"
"""Asks for an idle worker or a place in the queue."""

NOBODY_IDLE_SECONDS = 0.1
"""After an ask in vain, requests wait here without another one: when all are busy, it would only cost."""


class Asks:
    """Knows which routes run jobs: a request of such a route can be sent on before its handler runs."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._routes: set[str] = set()
        self._nobody_idle_until = 0.0

    def add(self, route: str) -> None:
        """Note that a request of this route runs a job."""
        self._routes.add(route)

    def before_handler(self, route: str, allowed: Container[str]) -> str:
        """What to ask for before the handler of a request runs; empty for nothing.

        ``allowed`` is what nginx can still ask for; it is empty if the request cannot be sent on.
        """
        if not allowed or route not in self._routes or self._workers.has_idle_worker:
            return ""
        if not self._workers.has_room:
            return PLACE if PLACE in allowed else ""
        now = time.monotonic()
        if IDLE not in allowed:
            self._nobody_idle_until = now + NOBODY_IDLE_SECONDS
        return IDLE if now >= self._nobody_idle_until else ""

    def before_job(self, allowed: Container[str]) -> str:
        """The same before the first job of a request."""
        return PLACE if PLACE in allowed and not self._workers.has_room else ""
