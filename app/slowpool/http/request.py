"""Facts about one request, from its headers."""

import uuid

from tornado.httputil import HTTPHeaders


def request_id(headers: HTTPHeaders) -> str:
    """The id that nginx has given the request, or a new one when the request did not come through nginx."""
    if "X-Request-ID" not in headers:
        headers["X-Request-ID"] = uuid.uuid4().hex
    return headers["X-Request-ID"]
