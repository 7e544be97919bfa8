"""RequestTracker: counts each request in and out, and logs the answers that nginx does not log."""

import logging
from collections.abc import Mapping

from tornado.web import RequestHandler

from slowpool.observe.heartbeat import Heartbeat
from slowpool.observe.metrics import Metrics

log = logging.getLogger("slowpool.access")


class RequestTracker:
    """``active`` is the number of requests that are being answered; system routes are not counted."""

    def __init__(self, metrics: Metrics, heartbeat: Heartbeat) -> None:
        self.active = 0
        self._heartbeat = heartbeat
        self._metrics = metrics

    def begin(self) -> None:
        """Count a request whose handler is about to run."""
        self.active += 1
        self._heartbeat.beat()

    def end(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        request_id: str,
        times: Mapping[str, float],
        *,
        behind_nginx: bool,
    ) -> None:
        """Count an answer and log it, with ``times`` in seconds by their names in the log.

        nginx logs each answer that passes through it; of these only a 500 has a line here too, beside its
        traceback. The line has the route but neither path nor query, which may hold personal data.
        """
        self.active -= 1
        self._heartbeat.beat()
        if method not in RequestHandler.SUPPORTED_METHODS:
            method = "_OTHER"
        self._metrics.request(method, route, status, seconds, times)
        if behind_nginx and status != 500:
            return
        extra = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            **{name: round(value, 4) for name, value in times.items()},
        }
        level = logging.ERROR if status == 500 else logging.INFO
        log.log(level, "%d %s %s %.1f ms", status, method, route, seconds * 1000, extra=extra)

    def hand_over(self, route: str) -> None:
        """Count a request that the slow pool answers; its instance there logs it."""
        self.active -= 1
        self._metrics.handed_over(route)

    def ask(self, ask: str) -> None:
        """Count a request that comes back, here or to another slow instance, after an ask."""
        self.active -= 1
        self._metrics.asked(ask)

    def send_elsewhere(self) -> None:
        """Count a request out that another instance of the same pool takes."""
        self.active -= 1
