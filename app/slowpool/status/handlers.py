"""The base classes of the system routes' handlers."""

from tornado.web import Application

from slowpool.instance import Runtime
from slowpool.web.problems import ProblemHandler

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html"""


class SystemApplication(Application):
    """The application of the system routes of one instance."""

    runtime: Runtime


class Handler(ProblemHandler):
    """A handler of a system route."""

    application: SystemApplication

    def text(self, text: str) -> None:
        """Answer with plain text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)


class PageHandler(Handler):
    """A handler of a page or of its files: only from this server, and without inline scripts."""

    def set_default_headers(self) -> None:
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)


class NotFoundHandler(Handler):
    """404, whatever the method."""

    def prepare(self) -> None:
        self.send_error(404)
