"""The application: its settings, its routes, and what it opens at start."""

import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado import locale
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.web import Application, RedirectHandler, RequestHandler, url

from tests.apps.team import api, live, pages

HERE = Path(__file__).parent


class Team(Application):
    """An application with attributes of its own."""

    db: sqlite3.Connection

    def __init__(self, **settings: Any) -> None:
        self.rooms = live.Rooms()
        self.reports: dict[str, live.Report] = {}
        self.logged = 0
        admin = Application([(r"/admin/users", api.AdminHandler)], default_handler_class=api.AdminMissing)
        mounted = RuleRouter(
            [Rule(PathMatches(r"/mounted/raw"), raw), Rule(PathMatches(r"/mounted/.*"), admin)]
        )
        super().__init__(
            [
                url(r"/", pages.HomeHandler, name="home"),
                url(r"/login", pages.LoginHandler, name="login"),
                (r"/logout", pages.LogoutHandler),
                (r"/account", pages.AccountHandler),
                (r"/contact", pages.ContactHandler),
                (r"/unescaped", pages.UnescapedHandler),
                (r"/broken", pages.BrokenHandler),
                (r"/links", pages.LinksHandler),
                (r"/old/(.*)", RedirectHandler, {"url": "/files/{0}", "permanent": True}),
                (r"/away", pages.AwayHandler),
                (r"/status", api.StatusHandler),
                (r"/metrics", api.MetricsHandler),
                (r"/livez", api.LivezHandler),
                (r"/notes", api.NotesHandler),
                url(r"/notes/(\d+)", api.NoteHandler, name="note"),
                (r"/echo", api.EchoHandler),
                (r"/headers", api.LongCookieHandler),
                (r"/hooks", api.HooksHandler),
                (r"/audit", api.AuditHandler),
                (r"/legacy", api.LegacyHandler),
                (r"/document", api.DocumentHandler),
                (r"/big", api.BigHandler),
                (r"//?files/(.*)", api.FilesHandler),
                (r"/chat/(?P<room>\w+)", live.ChatHandler),
                (r"/chat/(?P<room>\w+)/history", live.HistoryHandler),
                (r"/events", live.EventsHandler),
                (r"/stream", live.StreamHandler),
                (r"/upload", live.UploadHandler),
                (r"/attachments", live.AttachmentsHandler),
                (r"/reports", live.ReportsHandler),
                url(r"/reports/(\w+)", live.ReportHandler, name="report"),
                (r"/summary", live.SummaryHandler),
                Rule(PathMatches(r"/admin/.*"), admin),
                Rule(PathMatches(r"/mounted/.*"), mounted),
            ],
            **settings,
        )
        self.add_handlers(r"api\.team\.example", [(r"/", api.ApiRootHandler)])


@asynccontextmanager
async def resources(app: Application) -> AsyncIterator[None]:
    """Open the database for as long as the application is served."""
    assert isinstance(app, Team)
    path = os.environ.get("TEAM_DATABASE", f"{tempfile.gettempdir()}/team.sqlite")
    app.db = sqlite3.connect(path, timeout=30, isolation_level=None)
    app.db.execute("PRAGMA synchronous = OFF")
    app.db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
    app.db.execute("CREATE TABLE IF NOT EXISTS audit (what TEXT, key TEXT)")
    yield
    app.db.close()


def make_app() -> Application:
    """The application, as plain Tornado and slowpool serve it."""
    locale.load_translations(str(HERE / "locale"))
    return Team(
        lifespan=resources,
        cookie_secret="only for the tests",
        xsrf_cookies=True,
        login_url="/login",
        template_path=str(HERE / "templates"),
        static_path=str(HERE / "static"),
        ui_modules={"Card": pages.Card},
        ui_methods={"shout": shout},
        compress_response=True,
        default_handler_class=pages.MissingHandler,
        log_function=count_logged,
        autoescape="xhtml_escape",
        websocket_ping_interval=10,
        websocket_max_message_size=2 << 20,
        motto="as they are",
    )


def shout(handler: RequestHandler, text: str) -> str:
    """A UI method."""
    return text.upper() + "!"


def count_logged(handler: RequestHandler) -> None:
    """Tornado's ``log_function``: called at the end of each request."""
    handler.application.logged += 1  # type: ignore[attr-defined]  # it is a Team


def raw(request: HTTPServerRequest) -> None:
    """A target that is a plain function of the request."""
    assert request.connection
    body = f"raw {request.method}".encode()
    headers = HTTPHeaders({"Content-Length": str(len(body))})
    request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, body)
    request.connection.finish()
