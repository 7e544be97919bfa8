"""RequestGuard: drops headers in which a client claims an address or scheme."""

from collections.abc import Awaitable

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

BELIEVED = {"x-real-ip", "x-forwarded-for", "x-forwarded-proto"}
"""Set by nginx."""

CLAIMS = {"forwarded", "x-scheme", "x-url-scheme", "front-end-https"}
"""Other headers, beside all X-Forwarded-*, from which frameworks take the client's address or scheme."""


class RequestGuard(HTTPMessageDelegate):
    """Passes a request on to ``delegate``, without the headers that nginx has not set."""

    def __init__(self, delegate: HTTPMessageDelegate) -> None:
        self.data_received = delegate.data_received  # type: ignore[method-assign]
        self.finish = delegate.finish  # type: ignore[method-assign]
        self.on_connection_close = delegate.on_connection_close  # type: ignore[method-assign]
        self._delegate = delegate

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        for name in list(headers):
            if is_claim(name):
                del headers[name]
        return self._delegate.headers_received(start_line, headers)


def is_claim(name: str) -> bool:
    """Whether a header of this name claims an address or a scheme, and nginx has not set it."""
    name = name.lower()
    if name in BELIEVED:
        return False
    name = name.replace("_", "-")  # WSGI makes one variable of both
    return name.startswith("x-forwarded") or name in BELIEVED | CLAIMS
