"""The OpenAPI 3.1 description of the demo's routes; a test compares it with the routes."""

from typing import Any

Json = dict[str, Any]

REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
HEADERS = {"X-Request-ID": {"required": True, "schema": REQUEST_ID}}
ALLOW = {"Allow": {"required": True, "schema": {"type": "string"}}}
RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}

EVERYWHERE = ["400", "405", "408", "413", "414", "421", "429", "431", "502", "503", "504"]
"""Errors that every path can answer; nginx sends some of them."""

PROBLEMS: dict[str, tuple[str, Json]] = {
    "400": ("an argument is missing or invalid, or the request is not valid HTTP", {}),
    "404": ("there is no such file", {}),
    "405": ("the path does not allow this method", ALLOW),
    "408": ("the request did not arrive in time", {}),
    "413": ("the body, or its image, is too large", {}),
    "414": ("the URL is too long", {}),
    "421": ("the host name is not served here", {}),
    "422": ("another request had the same Idempotency-Key", {}),
    "429": ("this client sends too many requests", RETRY_AFTER),
    "431": ("the header is too large", {}),
    "500": ("the task failed", {}),
    "502": ("the instance or the worker ended during the request", {}),
    "503": ("the slow pool is full, or no instance takes requests", RETRY_AFTER),
    "504": ("the deadline passed, or the instance did not answer in time", {}),
}

FILE = {
    "name": "file",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "style.css",
}
ID = {
    "name": "id",
    "in": "query",
    "required": True,
    "description": "returned in the answer",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "example": "7",
}
N = {
    "name": "n",
    "in": "query",
    "description": "how much work there is to do",
    "schema": {"type": "integer", "minimum": 1, "maximum": 20_000, "default": 2000},
}
SIZE = {
    "name": "size",
    "in": "query",
    "description": "maximum pixels in each direction",
    "schema": {"type": "integer", "minimum": 1, "maximum": 2048, "default": 256},
}
ROWS = {
    "name": "rows",
    "in": "query",
    "description": "rows of the report, each with the work of n",
    "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
}
STREAM = {
    "name": "stream",
    "in": "query",
    "description": "1: each row is sent when it is there",
    "schema": {"type": "integer", "minimum": 0, "maximum": 1, "default": 0},
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "a shorter deadline in seconds, or `respond-async`, to fetch the answer later (RFC 7240)",
    "schema": {"type": "string"},
    "example": "wait=5",
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "with `respond-async`: the same request with the same key is the same job",
    "schema": {"type": "string"},
}
ACCEPTED = {
    "description": "accepted with `respond-async`; Location has its state, and later its answer",
    "headers": HEADERS | {"Location": {"required": True, "schema": {"type": "string"}}},
}


def operation(
    summary: str,
    media_type: str,
    parameters: tuple[Json, ...] = (),
    problems: tuple[str, ...] = (),
    **more: Any,
) -> Json:
    """An operation that answers 200 with this media type, or a problem; 202 where a client may prefer it."""
    accepts = PREFER in parameters
    statuses = sorted([*EVERYWHERE, *problems, *(["422"] if accepts else [])])
    return {
        "summary": summary,
        "parameters": [*parameters, *([KEY] if accepts else [])],
        **more,
        "responses": {
            "200": {"description": "the answer", "headers": HEADERS, "content": {media_type: {}}},
            **({"202": ACCEPTED} if accepts else {}),
            **{status: {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
    }


def factorials(way: str, *parameters: Json) -> Json:
    """A path that does the slow work in this way."""
    return {"get": operation(f"slow work, {way}", "text/plain", (ID, N, *parameters), ("500",))}


DESCRIPTION: Json = {
    "openapi": "3.1.0",
    "info": {"title": "slowpool: the demo", "version": "1"},
    "paths": {
        "/": {"get": operation("a page that explains the demo", "text/html")},
        "/openapi.json": {"get": operation("this description", "application/json")},
        "/static/{file}": {
            method: operation("the style and the scripts of the page", "*/*", (FILE,), ("404",))
            for method in ("get", "head")
        },
        "/fast": {"get": operation("answers at once", "text/plain", (ID,))},
        "/slow": factorials("on the instance's own thread, which blocks it"),
        "/slow_threaded": factorials("in a worker", PREFER),
        "/report": factorials("in a worker, on a path of the fast pool", PREFER),
        "/report/rows": {
            "get": operation(
                "a report, row by row in a worker", "text/plain", (ROWS, N, STREAM, PREFER), ("500",)
            )
        },
        "/plain": {
            "get": operation(
                "3 slow requests and 20 fast ones at one plain Tornado process, as lines of JSON",
                "application/x-ndjson",
                (N, PREFER),
                ("500",),
            )
        },
        "/stall": factorials("on the thread of whichever instance has it; then the slow pool has it"),
        "/slow/worker": factorials("in a worker", PREFER),
        "/slow/thread": factorials("in a thread"),
        "/slow/process": factorials("in a process of its own"),
        "/slow/executor": factorials("in a ProcessPoolExecutor"),
        "/slow/pool": factorials("in a multiprocessing.Pool"),
        "/slow/test": {"get": operation("a task that works and one that raises", "text/plain", (), ("500",))},
        "/slow/thumbnail": {
            "post": operation(
                "a JPEG that fits into size × size pixels",
                "image/jpeg",
                (SIZE, PREFER),
                ("500",),
                requestBody={
                    "required": True,
                    "description": "a whole image of at most 20 MiB, 16384 pixels in each direction, 80 "
                    "million pixels, 1000 frames, and 210 MB of memory while it is decoded, which limits PNG "
                    "(from 37 million pixels), progressive JPEG (from 24 million) and WebP (from 7 million)",
                    "content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}},
                },
            )
        },
    },
    "components": {
        "schemas": {
            "Problem": {
                "description": "RFC 9457",
                "type": "object",
                "required": ["type", "title", "status", "request_id"],
                "properties": {
                    "type": {"const": "about:blank"},
                    "title": {"type": "string", "minLength": 1},
                    "status": {"type": "integer"},
                    "detail": {"type": "string", "minLength": 1},
                    "request_id": REQUEST_ID,
                    "traceback": {"type": "array", "items": {"type": "string"}},
                },
                "additionalProperties": False,
            }
        },
        "responses": {
            status: {
                "description": description,
                "headers": HEADERS | headers,
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for status, (description, headers) in PROBLEMS.items()
        },
    },
}
