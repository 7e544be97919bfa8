"""Recorder: keeps what a handler answers, instead of sending it."""

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPInputError, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from slowpool.http.answer import done
from slowpool.jobs.record import Answer, Headers

NOT_KEPT = {
    "Connection",
    "Content-Length",  # that of the answer to a HEAD is not the size of its body
    "Date",
    "Keep-Alive",
    "Server",
    "Trailer",
    "Transfer-Encoding",
    "X-Accel-Buffering",
    "X-Request-Id",
    "X-Served-By",
}
"""Headers of one transfer, as Tornado writes their names. They are set anew when the answer is fetched."""


class Recorder(HTTPConnection):
    """The connection of a request whose client does not wait; the methods are those of Tornado's.

    ``answer`` is the answer once it is complete. It fails with StreamClosedError when the handler ends it
    half-way, and with Unkept for an answer that cannot be kept.
    """

    def __init__(self, context: Any, max_bytes: int, job_id: str) -> None:
        self.context = context
        self.stream = self
        self.job_id = job_id
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._max_bytes = max_bytes
        self._status = 0
        self._headers: Headers = []
        self._body = bytearray()

    def write_headers(  # type: ignore[override]  # of an answer
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        self._status = start_line.code
        checked = HTTPHeaders()  # it takes less than an application may have set
        try:
            for name, value in headers.get_all():
                if name not in NOT_KEPT:
                    checked.add(name, value.strip(" \t"))
        except HTTPInputError as error:
            self._fail(Unkept(f"a header of its answer is not valid: {error}"))
        self._headers = [*checked.get_all()]
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        if not self.answer.done():
            self._body += chunk
            if len(self._body) <= self._max_bytes:
                return done()
            self._body.clear()
            self._fail(Unkept(f"its answer has more than {self._max_bytes} bytes (SLOW_MAX_RESULT_BYTES)"))
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(StreamClosedError())
        refused.exception()  # a handler need not wait for it
        return refused

    def finish(self) -> None:
        if not self.answer.done():
            self.answer.set_result(Answer(self._status, self._headers, bytes(self._body)))
        self._body.clear()

    def close(self) -> None:
        """The handler has failed half-way, or its job is given up."""
        self._fail(StreamClosedError())

    def closed(self) -> bool:
        return self.answer.done()

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Nobody is there to close it."""

    def set_max_body_size(self, max_body_size: int) -> None:
        """The body is there."""

    def set_body_timeout(self, timeout: float) -> None:
        """The body is there."""

    def set_nodelay(self, value: bool) -> None:
        """Nothing is sent."""

    def detach(self) -> IOStream:
        raise StreamClosedError

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # it is no fault when nobody waits for it


class Unkept(Exception):
    """An answer cannot be kept; the text says why."""
