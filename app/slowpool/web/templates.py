"""RouteTemplates: the route of a request, such as ``/report/{}``, found by the rules of an application."""

import re
from collections.abc import Iterator

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, RuleRouter
from tornado.web import Application, ErrorHandler

Rules = list[tuple[object, PathMatches, str]]
"""The target of each rule with a path, its matcher, and its template."""


class RouteTemplates:
    """Reads the rules, of nested routers and applications too, and changes none of them."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._index()

    def of(self, handler_class: type | None, request: HTTPServerRequest) -> str:
        """The template of the rule by which the request has come to this handler.

        Without a handler class: of the first rule that matches. A handler that has come by no rule with a
        path is named by its class; the handler of unknown paths is the empty string.
        """
        if self._size != self._count():  # Application.add_handlers
            self._index()
        rules = self._all if handler_class is None else self._by_target.get(handler_class, [])
        for _, matcher, template in rules:
            if matcher.regex.match(request.path):
                return template
        unknown = {None, ErrorHandler, self._app.settings.get("default_handler_class")}
        return "" if handler_class in unknown else handler_class.__name__  # type: ignore[union-attr]

    def _index(self) -> None:
        self._size = self._count()
        self._all = list(_rules(self._app))
        self._by_target: dict[object, Rules] = {}
        for rule in self._all:
            self._by_target.setdefault(rule[0], []).append(rule)

    def _count(self) -> tuple[int, int]:
        return len(self._app.default_router.rules), len(self._app.wildcard_router.rules)


def route_template(pattern: str) -> str:
    """``/slow/report/{}`` or ``/slow/report/{name}`` for a route's regular expression."""
    template = re.sub(r"\((?:\?P<(\w+)>)?[^()]*\)", lambda group: f"{{{group[1] or ''}}}", pattern)
    return re.sub(r"\\(.)", r"\1", template.removeprefix("^").removesuffix("$"))


def _rules(target: object) -> Iterator[tuple[object, PathMatches, str]]:
    router = target.default_router if isinstance(target, Application) else target
    if not isinstance(router, RuleRouter):
        return
    for rule in router.rules:
        # The inner rule of a nested router comes first: it says more than the outer one.
        yield from _rules(rule.target)
        if isinstance(rule.matcher, PathMatches):
            yield rule.target, rule.matcher, route_template(rule.matcher.regex.pattern)
