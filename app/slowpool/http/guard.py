"""RequestGuard: checks each request between its connection and the application.

It drops headers in which a client claims an address or scheme, and refuses forms that take long to parse.
"""

from collections.abc import Awaitable, Callable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)

from slowpool.errors import RequestError
from slowpool.http.forms import Form, form

BELIEVED = {"x-real-ip", "x-forwarded-for", "x-forwarded-proto"}
"""Set by nginx."""

CLAIMS = {"forwarded", "x-scheme", "x-url-scheme", "front-end-https"}
"""Other headers, beside all X-Forwarded-*, from which frameworks take the client's address or scheme."""


Refuse = Callable[[HTTPServerRequest, RequestError], HTTPMessageDelegate]
"""Makes the delegate that answers a request with an error."""


class RequestGuard(HTTPMessageDelegate):
    """Passes a request on to ``delegate``, or to the one that ``refuse`` makes once the body has been read.

    The body of a handler with ``@stream_request_body`` is passed on unchecked: Tornado does not parse it.
    """

    def __init__(self, delegate: HTTPMessageDelegate, connection: HTTPConnection, refuse: Refuse) -> None:
        self._delegate = delegate
        self._connection = connection
        self._refuse_with = refuse
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
        if ready is None:  # not @stream_request_body, which returns a future
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
        # A refused body is read to its end: if the connection closed earlier, the answer could be lost.
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
        self._delegate.on_connection_close()  # it frees the part of the body that it has
        headers = self._headers.copy()
        headers.pop("Content-Type", None)  # Tornado then parses nothing
        request = HTTPServerRequest(connection=self._connection, start_line=self._start_line, headers=headers)
        self._delegate = self._refuse_with(request, error)
        self._form = None
        self._refused = True


def _is_claim(name: str) -> bool:
    name = name.lower()
    if name in BELIEVED:
        return False
    name = name.replace("_", "-")  # WSGI makes one variable of both
    return name.startswith("x-forwarded") or name in BELIEVED | CLAIMS
