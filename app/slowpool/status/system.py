"""system_application: the routes of slowpool itself, beside the application's."""

from typing import Any

from slowpool.errors import Misdirected
from slowpool.instance import Runtime
from slowpool.status import act_handlers, health, page, stack, told
from slowpool.status.handlers import Handler, NotFoundHandler, SystemApplication
from slowpool.status.overview import Overview
from slowpool.status.own_names import OwnNames

PING_SECONDS = 5
"""Keeps a quiet WebSocket open: nginx waits longer."""


def system_application(runtime: Runtime) -> SystemApplication:
    """Probes, metrics and status page; a request for another host than OwnNames is answered 421."""
    own_names = OwnNames(runtime.config)

    def checked(pattern: str, handler: type[Any], *kwargs: Any) -> tuple[Any, ...]:
        return pattern, type(handler.__name__, (_OwnHost, handler), {"own_names": own_names}), *kwargs

    pages = page.routes(Overview(runtime.config, runtime.events, runtime.instance))
    routes = [*health.routes, *stack.routes, *told.routes, *act_handlers.routes(runtime), *pages]
    app = SystemApplication(
        [checked(*route) for route in routes],
        default_handler_class=NotFoundHandler,
        websocket_ping_interval=PING_SECONDS,
        log_function=lambda _: None,
    )
    app.runtime = runtime
    return app


class _OwnHost(Handler):
    """Mixed into each handler of a system route."""

    own_names: OwnNames

    def prepare(self) -> None:
        if self.request.host not in self.own_names:
            raise Misdirected(
                "this route answers to localhost, to addresses and to the names of SERVER_NAMES only"
            )
        super().prepare()
