"""system_rules: the routes of slowpool itself, beside those of the user."""

from typing import Any

from tornado.routing import URLSpec

from slowpool.errors import Misdirected
from slowpool.instance import Runtime
from slowpool.status import health, page
from slowpool.status.overview import Overview
from slowpool.status.own_names import OwnNames
from slowpool.web.handlers import Handler
from slowpool.web.routes import rule


def system_rules(runtime: Runtime) -> list[URLSpec]:
    """Probes, metrics and status page; a request for another host than OwnNames is answered 421."""
    own_names = OwnNames(runtime.config)

    def system_rule(pattern: str, handler: type[Any], *kwargs: Any) -> URLSpec:
        checked = type(handler.__name__, (_OwnHost, handler), {"own_names": own_names})
        return rule(None, pattern, checked, *kwargs)

    return [system_rule(*route) for route in [*health.routes, *page.routes(Overview(runtime.config))]]


class _OwnHost(Handler):
    """Mixed into each handler of a system route."""

    own_names: OwnNames

    def prepare(self) -> None:
        if self.request.host not in self.own_names:
            raise Misdirected(
                "this route answers to localhost, to addresses and to the names of SERVER_NAMES only"
            )
