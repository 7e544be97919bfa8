"""Connection: one connection of a client, on which requests come one after the other."""

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, StreamClosedError
from tornado.log import app_log, gen_log

from slowpool.http.answer import Answer, done
from slowpool.http.body import Body, body
from slowpool.http.detached import DetachedStream
from slowpool.http.head import END, read_head
from slowpool.http.peer import peer
from slowpool.http.turns import Turns

PART_BYTES = 65536
"""How much of a body is read in one step."""

READ_AHEAD_BYTES = 65536
"""Reading pauses when so much has arrived that is not for now."""

LINGER_SECONDS = 5.0
"""How long the rest of a request that nobody wants is taken, after its answer: nginx's lingering_timeout."""

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"
HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """Limits of a connection: sizes in bytes, times in seconds."""

    head_bytes: int = 65536
    body_bytes: int = 100 * 1024 * 1024
    detached_bytes: int = 100 * 1024 * 1024  # that a stream may keep, once it is detached
    idle_seconds: float = 3600  # without a request, for a head, and without reading of an answer


class State(Enum):
    """What a connection waits for."""

    HEAD = auto()  # of the next request
    BODY = auto()
    APPLICATION = auto()  # before it takes more of the body
    TURN = auto()  # to handle a request that is complete
    ANSWER = auto()
    CLOSED = auto()  # nothing


@dataclass(slots=True)
class Request:
    """The request that a connection is about."""

    headers: HTTPHeaders
    answer: Answer
    message: HTTPMessageDelegate
    context: contextvars.Context
    body: Body | None = None
    late: asyncio.TimerHandle | None = None  # closes the connection when the body takes too long


class Connection(asyncio.Protocol):
    """Reads requests, gives them to ``delegate``, and sends their answers.

    A request begins when the answer to the one before it has been sent; until then its bytes wait. Each has a
    context of its own (contextvars).
    """

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        limits: Limits,
        turns: Turns,
        on_open: Callable[["Connection"], None],
        on_close: Callable[["Connection"], None],
    ) -> None:
        self._delegate = delegate
        self._limits = limits
        self._turns = turns
        self._on_open = on_open
        self._on_close = on_close
        self._state = State.HEAD
        self._data = b""  # that has been read and not used
        self._searched = 0  # how much of it has no end of a head
        self._client_ended = False
        self._reads = True
        self._writes: list[asyncio.Future[None]] = []  # that wait for the client to read
        self._is_full = False
        self._unsent_bytes = 0  # when the connection was last looked at
        self._request: Request | None = None

    # The transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = transport
        address = transport.get_extra_info("peername")
        # A Unix socket has none; Tornado has the same in its place.
        self._address = address if isinstance(address, tuple) else ("0.0.0.0",)  # nosec B104
        self._idle_since = self._loop.time()
        self._idle_timer = self._loop.call_later(self._limits.idle_seconds, self._check_idle)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        if self._state is State.CLOSED:
            return
        self._data = self._data + data if self._data else data
        self._go_on()

    def eof_received(self) -> bool:
        """The client sends no more, so it has gone, unless a handler answers without waiting for anything.

        A client that ends only its side of the connection looks the same as one that has closed it.
        """
        self._client_ended = True
        if self._request:
            self._loop.call_soon(self._check_gone, self._request)
        self._go_on()
        return not self.closed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._idle_timer.cancel()
        for write in self._writes:
            if not write.done():
                _fail(write)
        self._on_close(self)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._transport.set_write_buffer_limits()
        writes, self._writes = self._writes, []
        for write in writes:
            if not write.done():
                write.set_result(None)
        self._go_on()

    # An Answer calls these, and an application, for which this is the stream of its connection.

    @property
    def socket(self) -> Any:
        """The socket, to look at it."""
        return self._transport.get_extra_info("socket")

    def set_nodelay(self, value: bool) -> None:
        """As in IOStream; a small part of an answer is always sent at once."""

    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._state is State.CLOSED or bool(self._transport.is_closing())

    def write(self, data: bytes) -> "asyncio.Future[None]":
        """Send data; done when there is room for more. StreamClosedError when the connection is closed."""
        if self.closed():
            return _fail(self._loop.create_future())
        self._transport.write(data)
        if not self._is_full:
            return done()
        write: asyncio.Future[None] = self._loop.create_future()
        self._writes.append(write)
        return write

    def on_answered(self) -> None:
        """The answer is complete. If the request is not, nobody wants the rest of it."""
        if self._state is not State.ANSWER or not self._request or not self._request.answer.keeps_alive:
            self._end()
            return
        self._state, self._request = State.HEAD, None
        self._idle_since = self._loop.time()
        if self._data or self._client_ended:
            self._loop.call_soon(self._go_on)

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()
        self._leave()

    def detach(self, head: bytes) -> IOStream:
        """Give the socket to the caller, with ``head`` sent on it. Raises StreamClosedError."""
        if self._transport.is_closing():
            raise StreamClosedError
        stream = DetachedStream(self._transport, self._data, self._limits.detached_bytes)
        self._state, self._request = State.CLOSED, None
        if head:
            stream.write(head)
        return stream

    # Reading.

    def _go_on(self, taken: "asyncio.Future[None] | None" = None) -> None:
        """Use what has arrived, as far as that is possible now, unless what the application took failed."""
        try:
            if taken:
                taken.result()
            while self._step():
                pass
        except HTTPInputError as error:
            self._refuse(error)
        except (Exception, asyncio.CancelledError):
            app_log.error("Uncaught exception", exc_info=True)
            self.close()
        if self._client_ended and self._state is State.BODY:
            self.close()
        wants_more = self._state is State.BODY or (self._state is State.HEAD and not self._is_full)
        self._read(wants_more or len(self._data) <= READ_AHEAD_BYTES)

    def _read(self, on: bool) -> None:
        if self._reads is not on and not self._transport.is_closing():
            self._reads = on
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def _step(self) -> bool:
        """Use what has arrived for one step; whether another one may follow at once."""
        if self._state is State.HEAD:
            return self._has_sent_all() and self._read_head()
        request = self._request
        if self._state is not State.BODY or not request:
            return False
        if request.body is None:
            return self._begin_body(request)
        if request.body.is_complete:
            return self._complete(request)
        return self._read_body(request, request.body)

    def _has_sent_all(self) -> bool:
        """Whether nothing of an answer waits, as for detach(); otherwise resume_writing() is called then."""
        if not self._is_full and self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(0)  # calls pause_writing()
        return not self._is_full

    def _read_head(self) -> bool:
        found = END.search(self._data, max(0, self._searched - 3))
        self._searched = found.end() if found else len(self._data)
        if self._searched > self._limits.head_bytes:
            self._refuse(f"its head has more than {self._limits.head_bytes} bytes", HEAD_TOO_LARGE)
            return False
        if not found:
            if self._client_ended:
                self._end()
            return False
        head, self._data = self._data[: self._searched], self._data[self._searched :]
        self._searched = 0
        start_line, headers = read_head(head)
        answer = Answer(self, peer(self._address, headers), start_line, headers)
        answer.set_max_body_size(self._limits.body_bytes)
        message = self._delegate.start_request(self, answer)
        request = self._request = Request(headers, answer, message, contextvars.copy_context())
        self._state = State.BODY
        return self._give(request, message.headers_received, start_line, headers)

    def _begin_body(self, request: Request) -> bool:
        request.body = body(request.headers, request.answer.max_body_bytes)
        expects = request.headers["Expect"].lower() if "Expect" in request.headers else ""
        if expects == "100-continue" and not request.answer.has_begun:
            self._transport.write(CONTINUE)
        if request.body is None:
            return self._complete(request)
        if seconds := request.answer.body_timeout_seconds:
            request.late = self._loop.call_later(seconds, self._on_late_body)
        return True

    def _read_body(self, request: Request, body: Body) -> bool:
        given = self._data[:PART_BYTES]
        part, rest = body.feed(given)
        self._data = rest + self._data[PART_BYTES:]
        if part:
            return self._give(request, request.message.data_received, part)
        return len(rest) < len(given)

    def _give(self, request: Request, take: Callable[..., Awaitable[None] | None], *what: object) -> bool:
        """Give the application a part of the request; whether it has taken it."""
        ready = request.context.run(take, *what)
        if ready is None:
            return self._state is State.BODY
        self._state = State.APPLICATION
        request.context.run(asyncio.ensure_future, ready).add_done_callback(self._on_taken)
        return False

    def _on_taken(self, taken: "asyncio.Future[None]") -> None:
        if self._state is State.APPLICATION:
            self._state = State.BODY
            self._go_on(taken)
        elif not taken.cancelled():  # the connection was closed meanwhile
            taken.exception()

    def _complete(self, request: Request) -> bool:
        """Have the request handled when it is its turn."""
        self._state = State.TURN
        if request.late:
            request.late.cancel()
        self._turns.take(functools.partial(self._handle, request), has_body=request.body is not None)
        return False

    def _handle(self, request: Request) -> None:
        if self._state is not State.TURN:  # closed meanwhile
            return
        self._state = State.ANSWER
        try:
            request.context.run(request.message.finish)
        except Exception:
            app_log.error("Uncaught exception", exc_info=True)
            self._state = State.TURN
            self.close()
        if self._client_ended:
            self._loop.call_soon(self._check_gone, request)

    # Ends.

    def _refuse(self, error: object, answer: bytes = BAD_REQUEST) -> None:
        gen_log.info("Malformed HTTP message from %s: %s", self._address[0], error)
        if not self._request or not self._request.answer.has_begun:
            self._transport.write(answer)
        self._end()

    def _end(self) -> None:
        """Close the connection when all has been sent.

        If the client still sends, a reset would take from it what it has not read yet, so its connection is
        closed in stages: RFC 9112, section 9.6.
        """
        lingers = self._state is not State.ANSWER and not self._client_ended
        self._leave()
        self._data = b""
        if not lingers or self._transport.is_closing():
            self._transport.close()
            return
        with contextlib.suppress(OSError):  # the client has reset it
            self._transport.write_eof()
        self._read(True)
        self._idle_since = self._loop.time()
        self._idle_timer.cancel()
        self._check_idle()

    def _leave(self) -> None:
        """Read nothing any more, and tell the application if it does not know."""
        state, self._state = self._state, State.CLOSED
        request, self._request = self._request, None
        if not request:
            return
        if request.late:
            request.late.cancel()
        tell = request.answer.on_close if state is State.ANSWER else request.message.on_connection_close
        self._loop.call_soon(request.context.run, tell)

    def _check_gone(self, request: Request) -> None:
        if self._request is request and self._state is State.ANSWER:
            self.close()

    def _check_idle(self) -> None:
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes != self._unsent_bytes:  # the client reads
            self._unsent_bytes, self._idle_since = unsent_bytes, self._loop.time()
        idle_seconds = next_seconds = self._limits.idle_seconds
        if self._state is State.CLOSED:
            next_seconds = min(idle_seconds, LINGER_SECONDS)
        left_seconds = idle_seconds if unsent_bytes else next_seconds
        if self._state in (State.HEAD, State.CLOSED):
            left_seconds -= self._loop.time() - self._idle_since
        if left_seconds <= 0:
            self.close()
        else:
            self._idle_timer = self._loop.call_later(min(next_seconds, left_seconds), self._check_idle)

    def _on_late_body(self) -> None:
        gen_log.info("Timeout reading body from %s", self._address[0])
        self.close()


def _fail(write: "asyncio.Future[None]") -> "asyncio.Future[None]":
    write.set_exception(StreamClosedError())
    write.exception()  # not everybody waits for it
    return write
