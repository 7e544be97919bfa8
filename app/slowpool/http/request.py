"""Facts about one request: its id, and the route that it has matched."""

import re
import uuid
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches


def request_id(request: HTTPServerRequest) -> str:
    """The id that nginx has given the request, or a new one when the request did not come through nginx."""
    return str(request.headers.setdefault("X-Request-ID", uuid.uuid4().hex))


def route_of(request: HTTPServerRequest) -> str | None:
    """The template of the route that a request has matched, such as ``/slow/report/{}``.

    Empty without a match; None for a system route, which is neither counted nor logged.
    """
    route: str | None = getattr(request, "route", "")
    return route


def route_template(pattern: str) -> str:
    """``/slow/report/{}`` or ``/slow/report/{name}`` for a route's regular expression."""
    template = re.sub(r"\((?:\?P<(\w+)>)?[^()]*\)", lambda group: f"{{{group[1] or ''}}}", pattern)
    return re.sub(r"\\(.)", r"\1", template.removeprefix("^").removesuffix("$"))


class RouteMatches(PathMatches):
    """Matches a path, and stores ``route`` on the request for route_of."""

    def __init__(self, pattern: str, route: str | None) -> None:
        super().__init__(pattern)
        self._route = route

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        found = super().match(request)
        if found is not None:
            request.route = self._route  # type: ignore[attr-defined]  # Tornado has no attribute for it
        return found
