"""make_app: the application of one instance, with the routes of the module that ``ROUTES`` names."""

import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tornado import web
from tornado.routing import URLSpec
from tornado.websocket import WebSocketHandler

from slowpool.config import Pool
from slowpool.errors import ConfigError
from slowpool.http.request import RouteMatches, route_template
from slowpool.instance import Runtime
from slowpool.web.application import Application
from slowpool.web.handlers import MisdirectedHandler, NotFoundHandler, SlowHandler, TrackedWebSocket

SLOW_PREFIX = "/slow"
"""nginx sends a path that begins with it to the slow pool."""


def make_app(runtime: Runtime, system_rules: Iterable[URLSpec] = ()) -> Application:
    """The application of one instance; ``system_rules`` come before the routes of ``ROUTES``.

    Raises ConfigError when the module of ``ROUTES`` cannot be imported, has no list ``routes``, or
    has a route whose pattern nginx would send to the other pool.
    """
    routes = load_routes(runtime.config.routes)
    return Application(
        runtime,
        [*system_rules, *_rules(routes, runtime.instance.pool)],
        named={route.name: route for route in routes if route.name},
        not_found=NotFoundHandler,
    )


def load_routes(module_name: str) -> list[URLSpec]:
    """The checked ``routes`` of a module, in their order. Raises ConfigError as make_app does."""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"ROUTES={module_name}: there is no module {error.name!r}; put your package in the working "
            "directory or install it with pip"
        ) from error
    routes = getattr(module, "routes", None)
    if not isinstance(routes, list):
        raise ConfigError(f"ROUTES={module_name}: the module has no list named 'routes'")
    return [_checked(route, module_name) for route in routes]


def rule(route: str | None, pattern: str, handler: type[web.RequestHandler], *more: Any) -> URLSpec:
    """A rule whose requests have ``route`` as their route_of; ``more`` are URLSpec's other arguments."""
    spec = web.url(pattern, handler, *more)
    spec.matcher = RouteMatches(spec.regex.pattern, route)
    return spec


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
    if issubclass(handler, SlowHandler) != slow:
        raise ConfigError(
            f"ROUTES={module_name}: the pattern of a SlowHandler begins with {SLOW_PREFIX}, and no other "
            f"handler's does: change {handler.__name__} or {pattern!r}"
        )
    return spec


def _rules(routes: list[URLSpec], pool: Pool) -> Iterator[URLSpec]:
    """The routes that an instance of this pool serves; a fast one answers slow routes with 421."""
    for route in routes:
        pattern, handler = route.regex.pattern, route.handler_class
        if issubclass(handler, SlowHandler):
            if pool is Pool.FAST:
                yield rule(route_template(pattern), pattern, MisdirectedHandler)
                continue
        elif pool is Pool.SLOW:
            continue
        if issubclass(handler, WebSocketHandler):
            handler = type(handler.__name__, (TrackedWebSocket, handler), {})
        yield rule(route_template(pattern), pattern, handler, route.kwargs, route.name)
