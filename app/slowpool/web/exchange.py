"""Exchange: one request and its answer, between the HTTP server and the application."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from http.client import responses
from types import FrameType
from typing import Any

from tornado import httputil
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from slowpool.errors import CannotHandOver, NotFound, RequestError
from slowpool.http.forms import Form, form
from slowpool.http.request import request_id
from slowpool.instance import Runtime, State
from slowpool.web.problems import set_problem
from slowpool.web.templates import RouteTemplates
from slowpool.workers.job import Job

log = logging.getLogger("slowpool")

SYSTEM_PREFIX = "/-/"
"""The paths of slowpool's own routes."""

# nginx sets or clears these for each request, and the application sees none of them.
PUBLIC = "X-Slowpool-Public"  # the request came through the public server
ELAPSED = "X-Slowpool-Elapsed"  # seconds since a fast instance received the request, which it handed over
STREAMED = "X-Slowpool-Streamed"  # nginx does not keep the body, so it cannot be sent to the slow pool

HANDED_OVER = "@handed_over"
"""nginx's location for requests that are handed over to the slow pool."""

current: ContextVar["Exchange | None"] = ContextVar("exchange", default=None)
"""The exchange whose handler is running, at any depth of its calls and in the tasks that it starts."""


class Exchange(HTTPMessageDelegate):
    """Gives one request to an application, and passes on its answer.

    The application has a ``connection`` of its own for it. All that slowpool does for a request is done here,
    around the application: it counts it, adds headers to its answer, answers slowpool's errors, hands it over
    to the slow pool, and gives up its jobs when the client has gone.
    """

    def __init__(
        self,
        runtime: Runtime,
        app: Application,
        templates: RouteTemplates,
        server_connection: object,
        connection: Any,
    ) -> None:
        self.runtime = runtime
        self.connection = Connection(self, connection)
        self.route: str | None = None  # None for a system route, which is neither counted nor logged
        self.status = 0
        self.begun = False  # the answer
        self.ended = False
        self.gone = False  # the client
        self.handed_over = False
        self.upgraded = False  # to a WebSocket
        self.jobs: set[Job[Any]] = set()
        self.job_seconds = {"queue_seconds": 0.0, "run_seconds": 0.0}
        self.answer_headers: dict[str, str] = {}
        self._app = app
        self._templates = templates
        self._server_connection = server_connection
        self._inner = connection
        self._target: HTTPMessageDelegate | None = None
        self._handler_class: type[RequestHandler] | None = None
        self._form: Form | None = None
        self._instead: Callable[[], None] | None = None  # at the end of the body, instead of the handler
        self._received = False  # the whole body

    # What the HTTP server calls with the request.

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)
        current.set(self)
        self.headers, self.method = headers, start_line.method
        self.request_id = request_id(headers)
        self.is_public = headers.pop(PUBLIC, "") == "1"
        self._is_streamed = headers.pop(STREAMED, "") == "1"
        self.arrived_at = asyncio.get_running_loop().time() - _seconds(headers.pop(ELAPSED, ""))
        request = HTTPServerRequest(
            connection=self.connection,
            server_connection=self._server_connection,
            start_line=start_line,
            headers=headers,
        )
        self._find_target(request)
        if self.route is not None:
            self.runtime.requests.begin()
        self._inner.set_close_callback(self.on_close)
        if self._instead:
            return None
        assert self._target
        ready = self._target.headers_received(start_line, headers)
        if ready is None:  # not @stream_request_body, which returns a future
            try:
                self._form = form(headers, self.runtime.config.max_body_bytes)
            except RequestError as error:
                self._refuse(error)
        return ready

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._form:
            try:
                self._form.feed(chunk)
            except RequestError as error:
                self._refuse(error)
        # The rest of a body is read although it is not used: if the connection closed earlier, the answer
        # could be lost.
        return None if self._instead else self._target.data_received(chunk)  # type: ignore[union-attr]

    def finish(self) -> None:
        self._received = True
        if self._form:
            try:
                self._form.end()
            except RequestError as error:
                self._refuse(error)
        if self._instead:
            self._instead()
        else:
            self._target.finish()  # type: ignore[union-attr]

    def on_connection_close(self) -> None:
        """The connection has closed before the body was complete."""
        if not self._instead and self._target:
            self._target.on_connection_close()
        self.on_close()

    def on_close(self) -> None:
        """The client has gone: give up its jobs, and tell the handler."""
        if self.gone:
            return
        self.gone = True
        self.give_up_jobs()
        self._end(self.status or 499)  # nginx's status for a client that did not wait
        if callback := self.connection.close_callback:
            self.connection.close_callback = None
            callback()

    # What the application calls through its connection.

    def write_headers(
        self, start_line: httputil.ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None
    ) -> bytes | None:
        """Note the answer and complete its headers; returns its first chunk."""
        self.begun, self.status = True, start_line.code
        error = sys.exc_info()[1]
        if isinstance(error, RequestError) and error.status_code == start_line.code:
            chunk = self._completed(error, headers, chunk)
        headers["X-Served-By"] = str(self.runtime.instance)
        headers["X-Request-ID"] = self.request_id
        if self.runtime.state is State.DRAINING and start_line.code != 101:
            headers["Connection"] = "close"  # nginx opens its next connection to another instance
        for name, value in self.answer_headers.items():
            headers[name] = value
        if "Content-Length" not in headers and start_line.code >= 200 and start_line.code not in (204, 304):
            self.runtime.streams.add(self.cut)
            headers.setdefault("X-Accel-Buffering", "no")  # nginx passes each flush on at once
        return chunk

    def finish_answer(self) -> None:
        """The answer is complete."""
        if self.status == 101:
            self.upgraded = True
        else:
            self.give_up_jobs()
        self._end(self.status)

    def detached(self, stream: IOStream) -> None:
        """The handler has taken the connection, for a WebSocket for example."""
        handler = self.handler
        if isinstance(handler, WebSocketHandler):
            self.runtime.websockets[handler] = stream
        set_close_callback = stream.set_close_callback  # an IOStream has room for one

        def set_both(callback: Callable[[], None] | None) -> None:
            def both() -> None:
                self.gone = True
                self.give_up_jobs()
                if isinstance(handler, WebSocketHandler):
                    self.runtime.websockets.pop(handler, None)
                if callback:
                    callback()

            set_close_callback(both)

        stream.set_close_callback = set_both  # type: ignore[method-assign]
        stream.set_close_callback(None)

    # What slowpool.run and the server call.

    @property
    def handler(self) -> RequestHandler | None:
        """The handler of the request, once there is one."""
        return getattr(self._target, "handler", None)

    def give_up_jobs(self) -> None:
        """End the jobs that still wait or run: nobody waits for them any more."""
        for job in self.jobs:
            job.cancel()

    def hand_over(self) -> None:
        """Have nginx give the request to the slow pool, and drop all that the application writes from now on.

        Raises CannotHandOver when it is too late.
        """
        if self.upgraded:
            raise CannotHandOver("a WebSocket stays where it is: add its path to SLOW_PATHS")
        if self.begun:
            raise CannotHandOver(
                "the answer has begun: call it before the first flush() or finish(), or add the path to "
                "SLOW_PATHS"
            )
        if self._is_streamed:
            raise CannotHandOver("nginx does not keep bodies of STREAM_PATHS: add the path to SLOW_PATHS too")
        self.handed_over = True
        if self._received:
            self._redirect()
        else:
            self._instead = self._redirect

    def cut(self) -> None:
        """Close the connection, whatever is missing of the answer."""
        self._inner.close()
        self.on_close()

    def _find_target(self, request: HTTPServerRequest) -> None:
        if request.path.startswith(SYSTEM_PREFIX):
            if self.is_public:
                self._instead = lambda: self._answer(NotFound("this path is not published"))
            else:
                self._target = self.runtime.system.find_handler(request)
            return
        if type(self._app).start_request is Application.start_request:
            self._target = self._app.find_handler(request)
            self._handler_class = getattr(self._target, "handler_class", None)
        else:
            self._target = self._app.start_request(self._server_connection, self.connection)
        self.route = self._templates.of(self._handler_class, request)
        is_websocket = self._handler_class is not None and issubclass(self._handler_class, WebSocketHandler)
        if self.route in self.runtime.learned and not is_websocket and not self._is_streamed:
            self.handed_over = True
            self._instead = self._redirect

    def _redirect(self) -> None:
        if self.gone:
            return
        elapsed_seconds = asyncio.get_running_loop().time() - self.arrived_at
        headers = HTTPHeaders(
            {
                "X-Accel-Redirect": HANDED_OVER,
                ELAPSED: f"{elapsed_seconds:.3f}",
                "X-Served-By": str(self.runtime.instance),
                "Content-Length": "0",
            }
        )
        if self.runtime.state is State.DRAINING:
            headers["Connection"] = "close"
        self._inner.write_headers(httputil.ResponseStartLine("HTTP/1.1", 200, "OK"), headers, b"")
        self._inner.finish()
        if not self.ended and self.route is not None:
            self.ended = True
            self.runtime.requests.hand_over(self.route)
        self._target = None

    def _refuse(self, error: RequestError) -> None:
        assert self._target
        self._target.on_connection_close()  # it frees the part of the body that it has
        self._form = None
        self._instead = lambda: self._answer(error)

    def _answer(self, error: RequestError) -> None:
        """Answer with a problem, without the application."""
        headers = HTTPHeaders()
        body = set_problem(headers, error, self.request_id)
        start_line = httputil.ResponseStartLine("HTTP/1.1", error.status, responses[error.status])
        self.connection.write_headers(start_line, headers, b"" if self.method == "HEAD" else body)
        self.connection.finish()

    def _completed(self, error: RequestError, headers: HTTPHeaders, chunk: bytes | None) -> bytes | None:
        """The first chunk of a handler's answer to one of slowpool's errors; completes its headers."""
        extra = {"request_id": self.request_id, "route": self.route}
        log.info("%s %s: %s", self.method, self.route, error.log_text, extra=extra)
        for name, value in error.headers().items():
            headers.setdefault(name, value)
        if not _is_called_by(RequestHandler.write_error):
            return chunk  # the application has a page of its own
        body = set_problem(headers, error, self.request_id)
        return b"" if self.method == "HEAD" else body

    def _end(self, status: int) -> None:
        self.runtime.streams.discard(self.cut)
        if status != 101:
            self._target = self._form = None  # the task of a kept-alive connection holds this exchange
        if not self.ended and self.route is not None:
            self.ended = True
            seconds = asyncio.get_running_loop().time() - self.arrived_at
            times = self.job_seconds if "Server-Timing" in self.answer_headers else {}
            self.runtime.requests.end(str(self.method), self.route, status, seconds, self.request_id, times)


class Connection(httputil.HTTPConnection):
    """The connection as the application sees it; what is not here is that of the HTTP server's connection."""

    def __init__(self, exchange: Exchange, inner: Any) -> None:
        self.exchange = exchange
        self.close_callback: Callable[[], None] | None = None
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Sets a callback for the time when the client has gone."""
        self.close_callback = callback

    def write_headers(  # type: ignore[override]  # of answers only
        self, start_line: httputil.ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        if self.exchange.handed_over:
            return _done()
        chunk = self.exchange.write_headers(start_line, headers, chunk)
        return self._inner.write_headers(start_line, headers, chunk)  # type: ignore[no-any-return]

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        if self.exchange.handed_over:
            return _done()
        return self._inner.write(chunk)  # type: ignore[no-any-return]

    def finish(self) -> None:
        if self.exchange.handed_over:
            return
        self._inner.finish()
        self.exchange.finish_answer()

    def detach(self) -> IOStream:
        """Give the stream to the caller, who speaks another protocol from now on."""
        stream: IOStream = self._inner.detach()
        self.exchange.detached(stream)
        return stream


def _is_called_by(function: Callable[..., Any]) -> bool:
    """Whether this Python function is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _done() -> "asyncio.Future[None]":
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
