"""Recorder: keeps what a handler answers, instead of sending it."""

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPConnection, HTTPHeaders, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from slowpool.http.answer import done
from slowpool.jobs.record import Answer


class Recorder(HTTPConnection):
    """The connection of a request whose client does not wait; the methods are those of Tornado's.

    ``answer`` is the answer once it is complete. It fails with StreamClosedError when the handler ends it
    half-way, and with AnswerTooLarge when it has more than ``max_bytes``.
    """

    def __init__(self, context: Any, max_bytes: int) -> None:
        self.context = context
        self.stream = self
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._max_bytes = max_bytes
        self._start_line: ResponseStartLine | None = None
        self._headers = HTTPHeaders()
        self._parts: list[bytes] = []
        self._bytes = 0

    def write_headers(  # type: ignore[override]  # of an answer
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        self._start_line, self._headers = start_line, headers
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        if self.answer.done():
            raise StreamClosedError
        self._bytes += len(chunk)
        if self._bytes > self._max_bytes:
            self._fail(AnswerTooLarge(f"the answer has more than {self._max_bytes} bytes"))
            raise StreamClosedError
        self._parts.append(chunk)
        return done()

    def finish(self) -> None:
        if not self.answer.done() and self._start_line:
            headers = [*self._headers.get_all()]
            self.answer.set_result(Answer(self._start_line.code, headers, b"".join(self._parts)))

    def close(self) -> None:
        """The handler has failed half-way."""
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


class AnswerTooLarge(Exception):
    """The answer of an accepted job is larger than what is kept."""
