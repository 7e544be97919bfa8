"""make_app: the system's own routes, and those of the module that ``ROUTES`` names."""

import importlib
import logging
import re
import time
from collections.abc import Iterable
from enum import Enum
from typing import Any

from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.routing import URLSpec
from tornado.websocket import WebSocketHandler

from slowpool.config import Config, Instance, Pool
from slowpool.errors import ConfigError
from slowpool.observe.metrics import Metrics
from slowpool.status import page as status
from slowpool.status.overview import Overview
from slowpool.web import health
from slowpool.web.handlers import (
    MisdirectedHandler,
    NotFoundHandler,
    RouteMatches,
    SlowHandler,
    SystemHandler,
    TrackedWebSocket,
    request_id,
    route_of,
    route_template,
)
from slowpool.web.own_names import OwnNames
from slowpool.workers.pool import WorkerPool

log = logging.getLogger("slowpool.access")

SLOW_PREFIX = "/slow"
"""Where nginx draws the line: a path that begins so goes to the slow pool."""

SYSTEM_ROUTES = [*health.routes, *status.routes]

WEBSOCKET_PING_SECONDS = 5
"""Keeps a quiet WebSocket alive through nginx, whose read timeout for the fast pool is longer."""


class State(Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Application(web.Application):
    """The Tornado application of one instance, with what its handlers share."""

    def __init__(self, config: Config, instance: Instance, routes: list[URLSpec]) -> None:
        self.config = config
        self.instance = instance
        self.own_names = OwnNames(config)
        self.state = State.STARTING
        self.started_at = time.time()
        self.active_requests = 0
        self.websockets: set[WebSocketHandler] = set()
        self.metrics = Metrics(instance.pool, config.slow_timeout_seconds)
        self.workers = WorkerPool(config, self.metrics)
        self.metrics.watch(
            lambda: self.active_requests, lambda: self.workers.waiting, lambda: self.workers.running
        )
        self.overview = Overview(config)
        self._named = {route.name: route for route in routes if route.name}
        rules = list(_rules(routes, instance.pool))
        for rule in rules:
            rule.matcher = RouteMatches(rule.regex.pattern, route_template(rule.regex.pattern))
        super().__init__(
            [*map(_system_rule, SYSTEM_ROUTES), *rules],
            transforms=[type("ResponseHeaders", (_ResponseHeaders,), {"application": self})],
            default_handler_class=NotFoundHandler,
            websocket_ping_interval=WEBSOCKET_PING_SECONDS,
            debug=False,
        )

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return self.state is State.READY

    def reverse_url(self, name: str, *args: Any) -> str:
        """The path of a named route, of whichever pool. Raises KeyError when no route has the name."""
        if name not in self._named:
            raise KeyError(f"no route is named {name!r}")
        return str(self._named[name].reverse(*args))

    def log_request(self, handler: web.RequestHandler) -> None:
        """Count an answer, and log it: its route and no path or query, which may hold personal data."""
        request, code = handler.request, handler.get_status()
        route = route_of(request)
        if route is None:
            return
        self.active_requests -= 1
        method = request.method if request.method in handler.SUPPORTED_METHODS else "_OTHER"
        seconds = request.request_time()
        self.metrics.request(method or "", route, code, seconds)
        extra: dict[str, Any] = {
            "request_id": request_id(request),
            "method": method,
            "route": route,
            "status": code,
            "seconds": round(seconds, 4),
        }
        if isinstance(handler, SlowHandler):
            extra["queue_seconds"] = round(handler.wait_seconds, 4)
            extra["run_seconds"] = round(handler.run_seconds, 4)
        level = logging.ERROR if code == 500 else logging.INFO
        log.log(level, "%d %s %s %.1f ms", code, method, route, seconds * 1000, extra=extra)


def make_app(config: Config, instance: Instance) -> Application:
    """The application of one instance.

    Raises ConfigError when the module of ``ROUTES`` cannot be imported, has no list ``routes``, or
    has a route whose pattern nginx would send to the other pool.
    """
    return Application(config, instance, load_routes(config.routes))


def load_routes(module_name: str) -> list[URLSpec]:
    """The checked ``routes`` of a module, in their order. Raises ConfigError as make_app does."""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"ROUTES={module_name}: there is no module {error.name!r}; put your package beside app/ "
            "or install it with pip"
        ) from error
    routes = getattr(module, "routes", None)
    if not isinstance(routes, list):
        raise ConfigError(f"ROUTES={module_name}: the module has no list named 'routes'")
    return [_checked(route, module_name) for route in routes]


def _checked(route: Any, module_name: str) -> URLSpec:
    try:
        spec = route if isinstance(route, URLSpec) else web.url(*route)
        handler, pattern = spec.handler_class, spec.regex.pattern
        is_handler = issubclass(handler, web.RequestHandler)
    except (AttributeError, AssertionError, ImportError, TypeError, re.error):
        is_handler = False
    if not is_handler:
        raise ConfigError(f"ROUTES={module_name}: {route!r} is not a route; write (pattern, handler class)")
    slow = pattern.removeprefix("^").startswith(SLOW_PREFIX)
    name = handler.__name__
    if issubclass(handler, SlowHandler) and not slow:
        raise ConfigError(
            f"ROUTES={module_name}: {name} is a SlowHandler, so its pattern must begin with "
            f"{SLOW_PREFIX}; it is {pattern!r}, which nginx sends to the fast pool"
        )
    if slow and not issubclass(handler, SlowHandler):
        raise ConfigError(
            f"ROUTES={module_name}: {pattern!r} goes to the slow pool; make {name} a SlowHandler "
            f"or choose a path that does not begin with {SLOW_PREFIX}"
        )
    return spec


def _system_rule(route: tuple[Any, ...]) -> URLSpec:
    pattern, handler, *kwargs = route
    rule = web.url(pattern, type(handler.__name__, (SystemHandler, handler), {}), *kwargs)
    rule.matcher = RouteMatches(rule.regex.pattern, None)
    return rule


def _rules(routes: list[URLSpec], pool: Pool) -> Iterable[URLSpec]:
    """What an instance of this pool serves: a fast one answers slow routes with 421."""
    for route in routes:
        handler = route.handler_class
        if issubclass(handler, SlowHandler):
            if pool is Pool.FAST:
                yield web.url(route.regex.pattern, MisdirectedHandler)
            else:
                yield route
        elif pool is not Pool.SLOW:
            if issubclass(handler, WebSocketHandler):
                handler = type(handler.__name__, (TrackedWebSocket, handler), {})
            yield web.url(route.regex.pattern, handler, route.kwargs, route.name)


class _ResponseHeaders(web.OutputTransform):
    """Puts the headers of the contract on every answer, of whatever handler."""

    application: Application

    def __init__(self, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._request = request
        if route_of(request) is not None:
            self.application.active_requests += 1

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers["X-Served-By"] = str(self.application.instance)
        headers["X-Request-ID"] = request_id(self._request)
        if self.application.state is State.DRAINING:
            # nginx then opens its next connection to an instance that stays.
            headers["Connection"] = "close"
        return status_code, headers, chunk
