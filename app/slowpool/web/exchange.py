"""Exchange: one request and its answer, as the application's connection."""

import asyncio
import logging
import select
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from http.client import responses
from types import FrameType
from typing import Any

from tornado import httputil
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from slowpool.config import Pool
from slowpool.errors import CannotHandOver, ClientGone, PoolFull, RequestError
from slowpool.http.answer import done
from slowpool.http.request import request_id
from slowpool.instance import Runtime, State
from slowpool.observe.untrusted import short_ascii
from slowpool.web.nginx import ASK, ASKS, ELAPSED, ELSEWHERE, HANDED_OVER, PUBLIC, ROUTE, STREAMED, TIMES
from slowpool.web.problems import set_problem
from slowpool.workers.job import Job

log = logging.getLogger("slowpool")

ACCEPTED = "accepted"
"""Instead of a location of nginx's: the request is accepted, and its handler runs later, from its start."""

LOOK_SECONDS = 1.0
"""How often the connection of a WebSocket with a job is looked at."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that did not wait for the answer."""

current: ContextVar["Exchange | None"] = ContextVar("exchange", default=None)
"""The exchange whose handler is running, at any depth of its calls and in the tasks that it starts."""


class Exchange(httputil.HTTPConnection):
    """Is between the application and the HTTP server's connection, ``inner``, for one request.

    All that slowpool does for a request is done here, around the application: it counts it, completes the
    headers of its answer, answers slowpool's errors, sends it on to the slow pool, and gives up its jobs
    when the client has gone. What is not here is that of ``inner``. ``route`` is None for a system route,
    which is neither counted nor logged. With a ``job_id`` the client has been answered that the request is
    accepted, and what the handler answers is kept.
    """

    def __init__(self, runtime: Runtime, inner: Any, method: str, headers: HTTPHeaders) -> None:
        self.runtime = runtime
        self.method = method
        self.request_headers = headers
        self.request_id = request_id(headers)
        self.is_public = _taken(headers, PUBLIC) == "1"
        self.is_streamed = _taken(headers, STREAMED) == "1"
        self.asks = _taken(headers, ASKS).split()
        self.arrived_at = time.monotonic() - _seconds(_taken(headers, ELAPSED))
        self.route: str | None = None
        self.handler: RequestHandler | None = None
        self.received = False  # the whole body
        self.gone = False  # the client
        self.handed_over = ""  # nginx's location that gets the request, or ACCEPTED
        self.acceptance: asyncio.Task[None] | None = None
        self.job_id: str = getattr(inner, "job_id", "")
        self.upgraded = False  # to a WebSocket
        self.ended = False
        self.jobs: set[Job[Any]] = set()
        self.has_run = False  # a job
        self.job_seconds = {"queue_seconds": 0.0, "run_seconds": 0.0}
        self.answer_headers: dict[str, str] = {}
        self._inner = inner
        self._status = 0
        self._tells_error = False
        self._close_callback: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def has_begun(self) -> bool:
        """Whether the answer has."""
        return self._status > 0

    def begin(self, route: str | None) -> None:
        """Count the request from now on."""
        self.route = route
        if route is not None and not self.job_id:
            self.runtime.requests.begin()
        self._inner.set_close_callback(self.on_close)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Sets what is called when the client has gone."""
        self._close_callback = callback

    def write_headers(  # type: ignore[override]  # of an answer
        self, start_line: httputil.ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        if self.handed_over:
            return done()
        status = self._status = start_line.code
        error = sys.exc_info()[1]
        self._tells_error = error is not None and _is_called_by(RequestHandler.send_error)
        if isinstance(error, RequestError) and error.status == status:
            self.log(error)
            chunk = self._completed(error, headers, chunk)
        headers["X-Served-By"] = self.runtime.name
        headers["X-Request-ID"] = self.request_id
        self._tell_nginx(headers)
        _taken(headers, "X-Accel-Redirect")  # nginx would look for a location of that name
        # When draining, nginx opens its next connection to another instance. Before the end of the body,
        # Tornado closes the connection after the answer, without saying so.
        if status >= 200 and (self.runtime.state is State.DRAINING or not self.received):
            headers["Connection"] = "close"
        for name, value in self.answer_headers.items():
            headers.add(name, value)
        if "Content-Length" not in headers and status >= 200 and status not in (204, 304) and not self.job_id:
            self.runtime.streams.add(self.cut)
            headers.setdefault("X-Accel-Buffering", "no")  # nginx passes each flush on at once
        return self._inner.write_headers(start_line, headers, chunk)  # type: ignore[no-any-return]

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        return done() if self.handed_over else self._inner.write(chunk)

    def finish(self) -> None:
        if self.handed_over:
            return
        if sys.exc_info()[1] and not self._tells_error and _is_called_by(RequestHandler.send_error):
            self._close_callback = None  # the client has not gone
            self.cut()  # the handler has failed half-way: the answer must not look complete
            return
        self._inner.finish()
        if self._status == 101:
            self.upgraded = True
        else:
            self._give_up_jobs()
        self._end(self._status)

    def detach(self) -> IOStream:
        """Give the stream to the caller, who speaks another protocol from now on. Raises ClientGone."""
        try:
            stream: IOStream = self._inner.detach()
        except StreamClosedError as error:
            raise ClientGone("the client closed the connection") from error
        handler = self.handler
        self._end(self._status or 101)
        if isinstance(handler, WebSocketHandler):
            self.runtime.websockets[handler] = self.jobs
        set_close_callback = stream.set_close_callback  # an IOStream has room for one

        def set_both(callback: Callable[[], None] | None) -> None:
            def both() -> None:
                self.gone = True
                self._give_up_jobs()
                if isinstance(handler, WebSocketHandler):
                    self.runtime.websockets.pop(handler, None)
                if callback:
                    callback()

            set_close_callback(both)

        stream.set_close_callback = set_both  # type: ignore[method-assign]
        stream.set_close_callback(None)
        if self.runtime.instance.pool is not Pool.FAST:  # where there are jobs
            self._look(stream)
        return stream

    def _look(self, stream: IOStream) -> None:
        """Give up the jobs of a WebSocket whose client has gone.

        While a handler works on a message, Tornado reads nothing, and does not notice the end of a connection
        behind a close frame, as a browser sends it.
        """
        if stream.closed():
            return
        if self.jobs and _has_hung_up(stream.fileno()):
            self.gone = True
            self._give_up_jobs()
            return
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, stream)

    def on_close(self) -> None:
        """The client has gone: give up its jobs, and tell the handler."""
        if self.gone:
            return
        self.gone = True
        self._give_up_jobs()
        self._end(self._status or CLIENT_CLOSED_REQUEST)
        if callback := self._close_callback:
            self._close_callback = None
            callback()

    def log(self, error: RequestError) -> None:
        """Log one of slowpool's errors, unless it is one of many: a full pool logs them together."""
        if isinstance(error, PoolFull):
            return
        extra = {"request_id": self.request_id, "route": self.route}
        route = "/-/" if self.route is None else self.route
        log.info("%s %s: %s", self.method, route, error.log_text, extra=extra)

    def cut(self) -> None:
        """Close the connection, whatever is missing of the answer."""
        self._inner.close()
        self.on_close()

    def fail(self, error: RequestError) -> None:
        """Answer with a problem, without the application."""
        headers = HTTPHeaders()
        self.answer(error.status, headers, set_problem(headers, error, self.request_id))

    def answer(self, status: int, headers: HTTPHeaders, body: bytes) -> None:
        """Answer without the application."""
        if status not in (204, 304):
            headers["Content-Length"] = str(len(body))
        start_line = httputil.ResponseStartLine("HTTP/1.1", status, responses.get(status, "Unknown"))
        self.write_headers(start_line, headers, b"" if self.method == "HEAD" else body)
        self.finish()

    def accept(self, recorder: Any) -> "Exchange":
        """Give the client's connection to an exchange of its own, which is returned.

        This one goes on with ``recorder``, which keeps what the handler answers; the client may go.
        """
        client = Exchange(self.runtime, self._inner, self.method, self.request_headers)
        client.request_id, client.is_public, client.arrived_at = (
            self.request_id,
            self.is_public,
            self.arrived_at,
        )
        client.route, client.received = self.route, self.received
        self._inner.set_close_callback(client.on_close)
        self._inner, self.job_id = recorder, recorder.job_id
        self.is_public, self.arrived_at = False, time.monotonic()
        return client

    def hand_over(self, location: str = HANDED_OVER) -> None:
        """Have nginx send the request on; drop all that the application writes from now on.

        Raises CannotHandOver when it is too late for that. A second call does nothing.
        """
        if self.handed_over:
            return
        if self.upgraded:
            raise CannotHandOver("a WebSocket stays where it is: add its path to SLOW_PATHS")
        if self.has_begun:
            raise CannotHandOver(
                "the answer has begun: call it before the first flush() or finish(), or add the path to "
                "SLOW_PATHS"
            )
        if self.is_streamed:
            raise CannotHandOver("nginx does not keep bodies of STREAM_PATHS: add the path to SLOW_PATHS too")
        self.handed_over = location
        if self.received:
            self.redirect()

    def redirect(self) -> None:
        """Answer a request that is handed over; its body must have been read."""
        if self.gone:
            return
        elapsed_seconds = time.monotonic() - self.arrived_at
        headers = HTTPHeaders({"X-Accel-Redirect": self.handed_over, ELAPSED: f"{elapsed_seconds:.3f}"})
        headers["X-Served-By"] = self.runtime.name
        self._tell_nginx(headers)
        headers["Content-Length"] = "0"
        if self.runtime.state is State.DRAINING:
            headers["Connection"] = "close"
        self._inner.write_headers(httputil.ResponseStartLine("HTTP/1.1", 200, "OK"), headers, b"")
        self._inner.finish()
        self._end(0)

    def _tell_nginx(self, headers: HTTPHeaders) -> None:
        """Add what nginx's line about the request has from here."""
        if self.route is None or not self.is_public:
            return
        headers[ROUTE] = short_ascii(self.route)
        for name, seconds in self._times().items():
            headers[TIMES[name]] = f"{seconds:.4f}"

    def _times(self) -> dict[str, float]:
        """Seconds of its jobs by their names in the log; empty without one that has ended."""
        return self.job_seconds if "Server-Timing" in self.answer_headers else {}

    def _completed(self, error: RequestError, headers: HTTPHeaders, chunk: bytes | None) -> bytes | None:
        """The first chunk of a handler's answer to one of slowpool's errors; completes its headers."""
        for name, value in error.headers().items():
            headers.setdefault(name, value)
        if not _is_called_by(RequestHandler.write_error):
            return chunk  # the application has a page of its own
        body = set_problem(headers, error, self.request_id)
        return b"" if self.method == "HEAD" else body

    def _give_up_jobs(self) -> None:
        for job in self.jobs:
            job.cancel()

    def _end(self, status: int) -> None:
        """Count the answer, unless that has been done; status 0 is a request that is sent on."""
        self.runtime.streams.discard(self.cut)
        if status != 101:
            self.handler = None  # the task of a kept-alive connection has this exchange
        if self.ended or self.route is None:
            return
        self.ended = True
        if self.job_id:  # counted when it was accepted
            return
        if not status:
            if self.handed_over == HANDED_OVER:
                self.runtime.requests.hand_over(self.route)
            elif self.handed_over in ELSEWHERE.values():
                self.runtime.requests.send_elsewhere()
            else:
                self.runtime.requests.ask(self.handed_over.removeprefix(ASK))
            return
        seconds = time.monotonic() - self.arrived_at
        self.runtime.requests.end(
            self.method,
            self.route,
            status,
            seconds,
            self.request_id,
            self._times(),
            behind_nginx=self.is_public,
        )


def _is_called_by(function: Callable[..., Any]) -> bool:
    """Whether this Python function is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _has_hung_up(fd: int | Any) -> bool:
    """Whether the other side has closed the connection, even if there is data before that."""
    poll = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def _taken(headers: HTTPHeaders, name: str) -> str:
    """The value of a header, which is removed; empty when there is none.

    A request has few of these, and ``pop`` of one that is not there takes an exception.
    """
    return headers.pop(name) if name in headers else ""


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
