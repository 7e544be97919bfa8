"""Receiver: takes a request from the HTTP server, and gives it to the application or to the system routes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator

from tornado import httputil
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import _DefaultMessageDelegate
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from slowpool.errors import Draining, NotFound, RequestError
from slowpool.http.forms import Form, form
from slowpool.instance import Runtime, State
from slowpool.observe.peers import MAX_BYTES
from slowpool.web.exchange import Exchange, current
from slowpool.web.nginx import ASK, ELSEWHERE, HANDED_OVER
from slowpool.web.templates import RouteTemplates
from slowpool.workers.pool import SHUTTING_DOWN

SYSTEM_PREFIX = "/-/"
"""The paths of slowpool's own routes."""


class Receiver(HTTPMessageDelegate):
    """Receives one request, for whose answer it makes an Exchange."""

    def __init__(
        self,
        runtime: Runtime,
        app: Application,
        templates: RouteTemplates,
        server_connection: object,
        connection: object,
    ) -> None:
        self._runtime = runtime
        self._app = app
        self._templates = templates
        self._server_connection = server_connection
        self._connection = connection
        self._target: HTTPMessageDelegate = HTTPMessageDelegate()  # the handler's
        self._form: Form | None = None
        self._refusal: RequestError | None = None
        self._started = False

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)
        exchange = self._exchange = Exchange(self._runtime, self._connection, start_line.method, headers)
        current.set(exchange)
        request = HTTPServerRequest(
            connection=exchange,
            server_connection=self._server_connection,
            start_line=start_line,
            headers=headers,
        )
        if request.path.startswith(SYSTEM_PREFIX):
            exchange.begin(None)
            if exchange.is_public:
                self._refusal = NotFound("this path is not published")
            else:
                # MAX_BODY_BYTES is for clients; other instances may send more.
                exchange.set_max_body_size(max(self._runtime.config.max_body_bytes, MAX_BYTES))
                self._target = self._runtime.system.find_handler(request)
        else:
            self._find(request)
        if self._refusal or exchange.handed_over:
            return None
        self._started = True
        ready = self._target.headers_received(start_line, headers)
        exchange.handler = self._handler()
        if ready is None and "Content-Type" in headers:  # not @stream_request_body, which returns a future
            with self._refusing():
                self._form = form(headers, self._runtime.config.max_body_bytes)
        return self._apart(ready)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._form:
            with self._refusing():
                self._form.feed(chunk)
        # The rest of a body is read although it is not used: if the connection closed earlier, the answer
        # could be lost.
        if self._refusal or self._exchange.handed_over:
            return None
        return self._apart(self._target.data_received(chunk))

    def finish(self) -> None:
        if self._form:
            with self._refusing():
                self._form.end()
        self._exchange.received = True
        if self._exchange.handed_over:
            self._exchange.redirect()
        elif self._refusal:
            self._exchange.fail(self._refusal)
        else:
            self._target.finish()
            self._exchange.handler = self._handler()

    def on_connection_close(self) -> None:
        """The connection has closed before the body was complete."""
        try:
            if self._started and not self._refusal:
                self._target.on_connection_close()
        finally:
            self._exchange.on_close()

    def _find(self, request: HTTPServerRequest) -> None:
        """Find the handler of the application's, and the route."""
        find = self._runtime.find_job_handler
        if find and (about_job := find(request)):
            self._target, route = about_job
            self._exchange.begin(route)
            return
        handler_class: type | None = None
        if type(self._app).start_request is Application.start_request:
            found: HTTPMessageDelegate | None = self._app.find_handler(request)  # None by a subclass only
            self._target = found or _DefaultMessageDelegate(self._exchange)
            handler_class = getattr(self._target, "handler_class", None)
        else:
            self._target = self._app.start_request(self._server_connection, self._exchange)
        route = self._templates.of(handler_class, request)
        self._exchange.begin(route)
        is_websocket = handler_class is not None and issubclass(handler_class, WebSocketHandler)
        if is_websocket and self._runtime.state is State.DRAINING:
            if self._exchange.is_public:
                self._exchange.handed_over = ELSEWHERE[self._runtime.instance.pool]
            else:
                self._refusal = Draining(SHUTTING_DOWN)
        elif route in self._runtime.learned and not is_websocket and not self._exchange.is_streamed:
            self._exchange.handed_over = HANDED_OVER
        elif ask := self._runtime.asks.before_handler(route, self._exchange.asks):
            self._exchange.handed_over = ASK + ask

    def _handler(self) -> RequestHandler | None:
        """The handler, once there is one; where the application routes itself, its router has it."""
        target = getattr(self._target, "delegate", self._target)
        return getattr(target, "handler", None)

    def _apart(self, ready: Awaitable[None] | None) -> Awaitable[None] | None:
        """Wait for the application in a task of its own, which ends when it hands the request over."""
        if ready is None:
            return None

        async def wait() -> None:
            task = asyncio.ensure_future(ready)
            await asyncio.wait([task])
            if not (task.cancelled() and self._exchange.handed_over):
                task.result()

        return wait()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Answer an error with a problem, once the body has been read, instead of calling the handler."""
        try:
            yield
        except RequestError as error:
            self._target.on_connection_close()  # it frees the part of the body that it has
            self._form = None
            self._refusal = error
