"""Asks: when a slow instance has nginx ask all of them for one that can take a request."""

import time
from collections.abc import Container

from slowpool.workers.pool import WorkerPool

IDLE = "idle"
"""Asks for an idle worker."""

PLACE = "place"
"""Asks for an idle worker or a place in the queue."""

IN_VAIN_SECONDS = 0.1
"""After an ask in vain none is made for so long: when all are busy or full, asks would only cost."""


class Asks:
    """Knows which routes run jobs: a request of such a route can be sent on before its handler runs."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._routes: set[str] = set()
        self._in_vain_until = {IDLE: 0.0, PLACE: 0.0}

    def add(self, route: str) -> None:
        """Note that a request of this route runs a job."""
        self._routes.add(route)

    def before_handler(self, route: str, allowed: Container[str]) -> str:
        """What to ask for before the handler of a request runs; empty for nothing.

        ``allowed`` is what nginx can still ask for; it is empty if the request cannot be sent on.
        """
        if route not in self._routes or self._workers.has_idle_worker:
            return ""
        return self._wanted(IDLE if self._workers.has_room else PLACE, allowed)

    def before_job(self, allowed: Container[str]) -> str:
        """The same before the first job of a request."""
        return "" if self._workers.has_room else self._wanted(PLACE, allowed)

    def _wanted(self, ask: str, allowed: Container[str]) -> str:
        if not allowed:
            return ""
        now = time.monotonic()
        if ask not in allowed:  # the request is back
            self._in_vain_until[ask] = now + IN_VAIN_SECONDS
            return ""
        return ask if now >= self._in_vain_until[ask] else ""
