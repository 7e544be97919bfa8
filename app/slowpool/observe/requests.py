"""RequestTracker: counts each request in and out, and logs its answer."""

import logging
from collections.abc import Mapping

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from slowpool.http.request import request_id, route_of
from slowpool.observe.metrics import Metrics

log = logging.getLogger("slowpool.access")


class RequestTracker:
    """``active`` is the number of requests that are being answered; system routes are not counted."""

    def __init__(self, metrics: Metrics) -> None:
        self.active = 0
        self._metrics = metrics

    def begin(self, request: HTTPServerRequest) -> None:
        """Count a request whose handler is about to run."""
        if route_of(request) is not None:
            self.active += 1

    def end(self, handler: RequestHandler, times: Mapping[str, float]) -> None:
        """Count an answer and log it, with ``times`` in seconds by their names in the log.

        The line has the route but neither path nor query, which may hold personal data.
        """
        request, status = handler.request, handler.get_status()
        route = route_of(request)
        if route is None:
            return
        self.active -= 1
        method = str(request.method) if request.method in handler.SUPPORTED_METHODS else "_OTHER"
        seconds = request.request_time()
        self._metrics.request(method, route, status, seconds)
        extra = {
            "request_id": request_id(request),
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            **{name: round(value, 4) for name, value in times.items()},
        }
        level = logging.ERROR if status == 500 else logging.INFO
        log.log(level, "%d %s %s %.1f ms", status, method, route, seconds * 1000, extra=extra)
