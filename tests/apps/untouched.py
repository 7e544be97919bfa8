"""An application that uses much of what Tornado has, and nothing of slowpool."""

from pathlib import Path

from tornado.httputil import HTTPHeaders
from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.template import DictLoader
from tornado.web import (
    Application,
    ErrorHandler,
    GZipContentEncoding,
    OutputTransform,
    RedirectHandler,
    RequestHandler,
    StaticFileHandler,
    UIModule,
    url,
)
from tornado.websocket import WebSocketHandler


class Shop(Application):
    database = "a database"


class TextHandler(RequestHandler):
    """Says by which path, and with which parts of it, it was reached."""

    def get(self, *parts: str) -> None:
        self.finish(f"{self.request.path} {parts}")


class SameHandler(RequestHandler):
    """Says what it sees of the application."""

    def get(self) -> None:
        assert isinstance(self.application, Shop)
        self.finish(f"{self.application is app} {self.application.database}, {self.settings['shop']}")


class WhereHandler(RequestHandler):
    """The paths of named routes."""

    def get(self) -> None:
        named = [self.reverse_url("item", 7), self.reverse_url("report", "a b", 2), self.reverse_url("talk")]
        self.finish(" ".join(named))


class UnknownHandler(RequestHandler):
    """Asks for a name that no route has."""

    def get(self) -> None:
        self.reverse_url("unknown")


class BulkHandler(RequestHandler):
    """More than is worth compressing."""

    def get(self) -> None:
        self.finish("x" * 5000)


class PriceModule(UIModule):
    def render(self, amount: float) -> str:
        return f"<b>{amount:.2f}</b>"


class PageHandler(RequestHandler):
    """A page of a template and a module."""

    def get(self) -> None:
        self.render("page.html", amount=7.5)


class LoginHandler(RequestHandler):
    """Signs a cookie, which any instance can read."""

    def get(self) -> None:
        self.finish(self.get_signed_cookie("user") or b"nobody")

    def post(self) -> None:
        self.set_signed_cookie("user", "kim")
        self.finish("welcome")


class HooksHandler(RequestHandler):
    """Says which of its hooks have been called, of all requests."""

    called: list[str] = []  # noqa: RUF012  # that of the class, on purpose

    def prepare(self) -> None:
        self.called.append("prepare")

    def on_finish(self) -> None:
        self.called.append("on_finish")

    def get(self) -> None:
        self.finish(" ".join(self.called))


class LostHandler(RequestHandler):
    """The application's own 404."""

    def prepare(self) -> None:
        self.set_status(404)
        self.finish(f"nothing at {self.request.path}")


class TalkHandler(WebSocketHandler):
    """Has a name."""


class Stamp(OutputTransform):
    """Adds a header to each answer."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers["X-Stamp"] = "yes"
        return status_code, headers, chunk


def log_request(handler: RequestHandler) -> None:
    """The application's own access log."""
    print("its own log:", handler.get_status(), flush=True)


app = Shop(
    [
        (r"/tuple/(.*)", TextHandler),
        url(r"^/url$", TextHandler, name="url"),
        (r"/from", RedirectHandler, {"url": "/tuple/x", "permanent": False}, "redirect"),
        (r"/slow", TextHandler),
        url(r"^/slowly", TextHandler),
        url(r"/item/([0-9]+)", TextHandler, name="item"),
        (r"/slow/report/(.*)/([0-9]+)", TextHandler, {}, "report"),
        (r"/talk", TalkHandler, {}, "talk"),
        (r"/same", SameHandler),
        (r"/where", WhereHandler),
        (r"/unknown", UnknownHandler),
        (r"/bulk", BulkHandler),
        (r"/page", PageHandler),
        (r"/login", LoginHandler),
        (r"/hooks", HooksHandler),
        (r"/files/(.*)", StaticFileHandler, {"path": Path(__file__).parent}),
        (r"/gone", ErrorHandler, {"status_code": 410}),
        (r"/(?:livez|readyz|metrics|status)", TextHandler),
        Rule(PathMatches(r"/nested/.*"), Application([(r"/nested/(.*)", TextHandler)])),
        Rule(
            PathMatches(r"/router/.*"),
            RuleRouter([Rule(PathMatches(r"/router/a.*"), Application([(r"/router/(.*)", TextHandler)]))]),
        ),
    ],
    default_handler_class=LostHandler,
    transforms=[Stamp, GZipContentEncoding],
    log_function=log_request,
    ui_modules={"Price": PriceModule},
    template_loader=DictLoader({"page.html": "<p>{% module Price(amount) %}</p>"}),
    cookie_secret="of the test",
    shop="a setting",
)
app.add_handlers(r"admin\.example", [(r"/same", RedirectHandler, {"url": "/admin"})])
