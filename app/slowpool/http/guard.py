"""RequestGuard: stands between a connection and any Tornado application.

It drops the headers in which a client says who it is, and refuses forms whose parsing would block the loop.
"""

from collections.abc import Awaitable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

from slowpool.errors import RequestError
from slowpool.http.forms import Form, form
from slowpool.web.handlers import RefusedHandler

BELIEVED = {"x-real-ip", "x-forwarded-for", "x-forwarded-proto"}
"""nginx sets these."""

CLAIMS = {"forwarded", "x-scheme", "x-url-scheme", "front-end-https"}
"""Others that servers and frameworks read as where a request comes from, beside all of X-Forwarded-*."""


class RequestGuard(HTTPMessageDelegate):
    """Passes a request on to another delegate, or answers it with 400 or 413 once its body has come.

    A body that its handler takes as it comes (``@stream_request_body``) is passed on as it is: Tornado does
    not parse it.
    """

    def __init__(
        self, delegate: HTTPMessageDelegate, application: Application, connection: HTTPConnection
    ) -> None:
        self._delegate = delegate
        self._application = application
        self._connection = connection
        self._form: Form | None = None
        self._refused = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        self._start_line, self._headers = start_line, headers
        for name in list(headers):
            if _is_claim(name):
                del headers[name]
        ready = self._delegate.headers_received(start_line, headers)
        if ready is None:  # who takes the body as it comes has Tornado wait until it is ready to
            try:
                self._form = form(headers)
            except RequestError as error:
                self._refuse(error)
        return ready

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._form:
            try:
                self._form.feed(chunk)
            except RequestError as error:
                self._refuse(error)
        # What is refused is read to its end: a connection that is closed before loses the answer.
        return None if self._refused else self._delegate.data_received(chunk)

    def finish(self) -> None:
        if self._form:
            try:
                self._form.end()
            except RequestError as error:
                self._refuse(error)
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()

    def _refuse(self, error: RequestError) -> None:
        self._delegate.on_connection_close()  # it frees what it has of the body
        headers = self._headers.copy()
        headers.pop("Content-Type", None)  # so that nothing is parsed
        request = HTTPServerRequest(connection=self._connection, start_line=self._start_line, headers=headers)
        handler = {"error": error}
        self._delegate = self._application.get_handler_delegate(request, RefusedHandler, handler)
        self._form = None
        self._refused = True


def _is_claim(name: str) -> bool:
    name = name.lower()
    if name in BELIEVED:
        return False
    name = name.replace("_", "-")  # an application behind WSGI cannot tell them apart
    return name.startswith("x-forwarded") or name in BELIEVED | CLAIMS
