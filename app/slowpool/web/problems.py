"""slowpool's own errors as application/problem+json (RFC 9457)."""

import json
from http.client import responses
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.web import RequestHandler

from slowpool.errors import RequestError

PROBLEM_TYPE = "application/problem+json"


def problem(status: int, detail: str | None, request_id: str) -> bytes:
    """The body of an answer with this status; without a ``detail`` it has none."""
    members = {
        "type": "about:blank",
        "title": responses.get(status, "Error"),
        "status": status,
        "request_id": request_id,
    }
    if detail:
        members["detail"] = detail
    return json.dumps(members).encode()


def set_problem(headers: HTTPHeaders, error: RequestError, request_id: str) -> bytes:
    """Set the headers of an answer to an error; returns its body."""
    body = problem(error.status_code, error.detail, request_id)
    headers.pop("Content-Encoding", None)
    headers["Content-Type"] = PROBLEM_TYPE
    headers["Content-Length"] = str(len(body))
    for name, value in error.headers().items():
        headers[name] = value
    return body


class ProblemHandler(RequestHandler):
    """A handler of slowpool's own, whose errors are answered with a problem."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        detail = error.detail if isinstance(error, RequestError) else None
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.finish(problem(status_code, detail, self.request.headers["X-Request-ID"]))
