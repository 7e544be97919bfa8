"""The base classes of the demo's handlers: arguments, plain text, and errors as JSON."""

import json
import re
import traceback
from typing import Any

from tornado.web import ErrorHandler, HTTPError, MissingArgumentError, RequestHandler

from slowpool.errors import BadArgument, RequestError

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html"""


class DemoHandler(RequestHandler):
    """Answers every error as application/problem+json (RFC 9457), those of slowpool too."""

    def text(self, text: str) -> None:
        """Answer with plain text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """An integer argument. Raises BadArgument when it is none, or out of its bounds."""
        value = self.get_argument(name, str(default), strip=False)
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not minimum <= int(value) <= maximum:
            raise BadArgument(f"{name} must be an integer from {minimum} to {maximum}")
        return int(value)

    def result_id(self) -> str:
        """The argument ``id``: 1 to 64 letters, digits, ``.``, ``_`` and ``-``. Raises BadArgument."""
        value = self.get_argument("id", strip=False)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
            raise BadArgument("id must be 1 to 64 letters, digits, '.', '_' or '-'")
        return value

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BadArgument(f"{name or 'the path'} is not UTF-8") from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": self._reason,
            "status": status_code,
            "request_id": self.request.headers.get("X-Request-ID", ""),
        }
        if isinstance(error, RequestError):
            problem["detail"] = error.detail
        elif isinstance(error, MissingArgumentError):
            problem["detail"] = f"the argument {error.arg_name} is missing"
        elif status_code == 405:
            self.set_header("Allow", ", ".join(self._allowed()))
            problem["detail"] = f"this path answers {', '.join(self._allowed())} only"
        elif error is not None and self.settings.get("serve_traceback"):
            problem["traceback"] = traceback.format_exception(error)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(problem))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Leave out the mistakes of clients."""
        if not isinstance(value, HTTPError) or value.status_code >= 500:
            super().log_exception(typ, value, tb)

    def _allowed(self) -> list[str]:
        refuses = RequestHandler._unimplemented_method
        return [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower()) is not refuses]


class PageHandler(DemoHandler):
    """A page, or its files: everything comes from this server, and no script is inline."""

    def set_default_headers(self) -> None:
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)
        if self.request.protocol == "https":  # with plain HTTP a browser ignores it, and complains
            self.set_header("Cross-Origin-Opener-Policy", "same-origin")


class NotFoundHandler(ErrorHandler, DemoHandler):
    """Answers 404, whatever the method."""
