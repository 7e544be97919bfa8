"""The names of routes."""

import re

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.web import Application, ErrorHandler, RequestHandler, url

from slowpool.web.templates import RouteTemplates, route_template


@pytest.mark.parametrize(
    ("pattern", "template"),
    [
        (r"/fast", "/fast"),
        (r"^/fast$", "/fast"),
        (r"/static/(.*)", "/static/{}"),
        (r"/user/(?P<user>\w+)/order/(?P<order>\d+)", "/user/{user}/order/{order}"),
        (r"/a\.json", "/a.json"),
    ],
)
def test_a_route_is_named_by_its_template(pattern: str, template: str) -> None:
    assert route_template(pattern) == template


class First(RequestHandler):
    pass


class Second(RequestHandler):
    pass


class Lost(RequestHandler):
    pass


def request(path: str) -> HTTPServerRequest:
    line = RequestStartLine("GET", path, "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "shop.example"}))


@pytest.mark.parametrize(
    ("handler", "path", "template"),
    [
        (First, "/a/7", "/a/{}"),
        (First, "/b", "/b"),
        (Second, "/a/7", "/a/{number}"),
        (Second, "/inner/x", "/inner/{}"),
        (Second, "/router/x", "/router/{}"),
        (Second, "/hosted", "/hosted"),
        (None, "/b", "/b"),
        (None, "/nothing", ""),
        (Lost, "/nothing", ""),
        (ErrorHandler, "/nothing", ""),
        (RequestHandler, "/a/7", "RequestHandler"),
    ],
)
def test_the_rule_by_which_a_request_came_names_its_route(
    handler: type[RequestHandler] | None, path: str, template: str
) -> None:
    inner = Application([(r"/inner/(.*)", Second)])
    app = Application(
        [
            (r"/a/(.*)", First),
            url(r"/b$", First),
            (r"/a/(?P<number>\d+)", Second),
            Rule(PathMatches("/inner.*"), inner),
            Rule(PathMatches("/router.*"), RuleRouter([Rule(PathMatches("/router/(.*)"), Second)])),
        ],
        default_handler_class=Lost,
    )
    app.add_handlers(re.escape("shop.example"), [("/hosted", Second)])
    assert RouteTemplates(app).of(handler, request(path)) == template


def test_a_route_that_is_added_later_is_found_too() -> None:
    app = Application()
    templates = RouteTemplates(app)
    assert templates.of(First, request("/late/7")) == "First"
    app.add_handlers(".*", [(r"/late/(.*)", First)])
    assert templates.of(First, request("/late/7")) == "/late/{}"
