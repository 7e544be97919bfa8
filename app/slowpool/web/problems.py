"""slowpool's own errors as application/problem+json (RFC 9457)."""

import json
from http.client import responses

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
