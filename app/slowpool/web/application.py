"""Application: Tornado's application, with the runtime that its handlers share."""

from typing import Any

from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.routing import Rule, URLSpec

from slowpool.http.request import request_id
from slowpool.instance import Runtime, State

WEBSOCKET_PING_SECONDS = 5
"""Keeps a quiet WebSocket open: nginx's read timeout for the fast pool is longer."""


class Application(web.Application):
    """Serves ``rules``; ``named`` are the routes of both pools that have a name."""

    def __init__(
        self,
        runtime: Runtime,
        rules: list[Rule],
        named: dict[str, URLSpec],
        not_found: type[web.RequestHandler],
    ) -> None:
        self.runtime = runtime
        self._named = named
        super().__init__(
            rules,
            transforms=[self._begin],  # type: ignore[list-item]  # Tornado only calls it
            default_handler_class=not_found,
            default_handler_args={"status_code": 404},
            websocket_ping_interval=WEBSOCKET_PING_SECONDS,
            debug=False,
        )

    def reverse_url(self, name: str, *args: Any) -> str:
        """The path of a named route, of whichever pool. Raises KeyError when no route has the name."""
        if name not in self._named:
            raise KeyError(f"no route is named {name!r}")
        return str(self._named[name].reverse(*args))

    def log_request(self, handler: web.RequestHandler) -> None:
        # Only SlowHandler has this attribute; it imports this module.
        self.runtime.requests.end(handler, getattr(handler, "_slowpool_job_times", {}))

    def _begin(self, request: HTTPServerRequest) -> web.OutputTransform:
        """Called once for each request, just before its handler runs."""
        self.runtime.requests.begin(request)
        return _ResponseHeaders(request, self.runtime)


class _ResponseHeaders(web.OutputTransform):
    """Adds slowpool's headers to every response, whichever handler sends it."""

    def __init__(self, request: HTTPServerRequest, runtime: Runtime) -> None:
        super().__init__(request)
        self._request = request
        self._runtime = runtime

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers["X-Served-By"] = str(self._runtime.instance)
        headers["X-Request-ID"] = request_id(self._request)
        if self._runtime.state is State.DRAINING:
            headers["Connection"] = "close"  # nginx opens its next connection to another instance
        return status_code, headers, chunk
