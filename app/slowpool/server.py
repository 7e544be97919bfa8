"""One instance from start to end: load the application, listen, serve, SIGTERM, drain, exit."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

from tornado import autoreload
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.web import Application

from slowpool import instance
from slowpool.config import Config, Instance, Pool
from slowpool.errors import ConfigError
from slowpool.http.forms import limit_parsing
from slowpool.http.guard import RequestGuard
from slowpool.instance import Runtime, State
from slowpool.linux.processes import adopt_orphans
from slowpool.linux.scheduling import SHORT_SLICE_SECONDS, request_slice
from slowpool.observe.loop_watch import LoopWatch
from slowpool.status.system import system_application
from slowpool.web.host import Host
from slowpool.web.load import lifespan, load
from slowpool.workers import warm

log = logging.getLogger("slowpool")

BACKLOG = 1024
"""Connections that the kernel holds for an instance that is busy for a moment."""

IDLE_CONNECTION_SECONDS = 60
"""When an idle connection is closed. Far above nginx's upstream ``keepalive_timeout`` of 3 s: nginx
closes first, and never sends a request on a connection that is being closed here."""

BUFFER_BYTES = 100 * 1024 * 1024
"""How much a connection may buffer at least: Tornado's own default."""

ACCEPT_PAUSE_SECONDS = 0.5
"""Time until the next try when there are no open files or memory left to accept a connection."""

LAST_ANSWERS_SECONDS = 1.0
"""Time for the answers to jobs that the drain timeout has cut off."""

CUT_INTERVAL_SECONDS = 0.1
"""The least time between two looks for streams to cut."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""The signals that an instance handles."""


async def serve(config: Config, own: Instance, *, reload: bool = False) -> None:
    """Run one instance until SIGTERM or SIGINT, then drain it; SIGUSR1 only ends WebSockets and streams.

    Raises ConfigError when the application cannot be loaded or the port is taken. Otherwise SIGNALS are
    ignored at the end, until release_signals().
    """
    request_slice(SHORT_SLICE_SECONDS if own.pool is Pool.FAST else 0)
    limit_parsing()
    runtime = instance.serving = Runtime(config, own)
    runtime.system = system_application(runtime)
    stop = _Stop()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _end_streams, runtime)
    resources = contextlib.AsyncExitStack()
    try:
        with stop.cancelling(stop.requested):
            app = await load(config.app)
            if config.debug:
                app.settings.setdefault("serve_traceback", True)
            if own.pool is not Pool.FAST:
                adopt_orphans()  # workers, should their template end
                await runtime.workers.start(warm.modules())
            await resources.enter_async_context(lifespan(config.app, app))
        if not stop.requested.is_set():
            await _serve_until_stopped(runtime, app, stop, reload)
    finally:
        await runtime.workers.close()
        with stop.cancelling(stop.forced):
            await resources.aclose()
    runtime.state = State.STOPPED
    # For a signal that comes while asyncio closes the loop it would print a traceback. Blocking them is not
    # enough: the thread of the loop watch would still take them.
    for number in SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    log.info("%s has stopped", own)


def release_signals() -> None:
    """Let signals end the process again, once serve() has ended and its loop is closed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


async def _serve_until_stopped(runtime: Runtime, app: Application, stop: "_Stop", reload: bool) -> None:
    config, own = runtime.config, runtime.instance
    server = _ConnectionCountingServer(runtime, app)
    gc.collect()
    gc.freeze()  # these objects stay; each later collection of them would stop the loop for 6 ms
    sockets = _bind(own)  # last: the port accepts connections only once the instance is ready
    server.add_sockets(sockets)
    runtime.state = State.READY
    # A slow instance may block.
    budget_seconds = 0 if own.pool is Pool.SLOW else config.fast_block_budget_seconds
    loop_watch = LoopWatch(runtime.metrics, runtime.learned, runtime.heartbeat, budget_seconds)
    log.info("%s is ready", own)
    if reload:
        autoreload.start()

    await stop.requested.wait()
    loop_watch.close()
    await _drain(runtime, server, sockets, stop)


async def _drain(
    runtime: Runtime, server: "_ConnectionCountingServer", sockets: list[socket.socket], stop: "_Stop"
) -> None:
    """Accept nothing new and finish what was accepted, until the timeout or a second signal."""
    timeout_seconds = runtime.config.drain_timeout_seconds
    runtime.state = State.DRAINING
    log.info("%s drains %d connections", runtime.instance, server.connections)
    _accept_pending(server, sockets)
    server.stop()
    _end_streams(runtime)
    await _first(_all_gone(runtime, server), stop.forced.wait(), timeout_seconds=timeout_seconds)
    if server.connections:
        reason = "a second signal" if stop.forced.is_set() else f"{timeout_seconds:g} s"
        log.warning("%s cuts %d connections after %s", runtime.instance, server.connections, reason)
    await runtime.workers.close()  # a job that is cut off here is still answered
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.idle.wait(), LAST_ANSWERS_SECONDS)
    await server.close_all_connections()


def _end_streams(runtime: Runtime) -> None:
    """End what may last for ever: WebSockets at once, and streams of a fast instance after their time."""
    runtime.close_websockets()
    if instance.draining.is_set():
        return  # SIGUSR1 comes before SIGTERM when a local run stops
    instance.draining.set()
    if runtime.instance.pool is not Pool.SLOW:
        loop = asyncio.get_running_loop()
        loop.call_later(runtime.config.stream_drain_seconds, _cut_streams, runtime)


def _cut_streams(runtime: Runtime) -> None:
    """End the answers whose length nobody knows: a download is finished, an endless stream is not."""
    if runtime.streams:
        seconds = runtime.config.stream_drain_seconds
        log.info("%s cuts %d streams after %g s", runtime.instance, len(runtime.streams), seconds)
    for cut in list(runtime.streams):
        cut()
    # Again for those that begin later.
    again_seconds = max(CUT_INTERVAL_SECONDS, runtime.config.stream_drain_seconds)
    asyncio.get_running_loop().call_later(again_seconds, _cut_streams, runtime)


async def _all_gone(runtime: Runtime, server: "_ConnectionCountingServer") -> None:
    await server.idle.wait()
    while runtime.websockets:  # each ends within the 5 s that Tornado gives its client to answer
        runtime.close_websockets()  # also those whose jobs are done by now
        await asyncio.sleep(0.05)


async def _first(*waits: Coroutine[Any, Any, Any], timeout_seconds: float | None = None) -> None:
    """Return when the first of the waits ends, or at the timeout."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _bind(own: Instance) -> list[socket.socket]:
    try:
        bound = bind_sockets(own.port, own.address, family=socket.AF_INET, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {own.address}:{own.port}: {error.strerror}") from error
    return [_Listener(fileno=sock.detach()) for sock in bound]


def _accept_pending(server: HTTPServer, sockets: list[socket.socket]) -> None:
    """Accept the connections in the backlog: closing the socket would reset them."""
    for sock in sockets:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, address = sock.accept()
                connection.setblocking(False)
                server.handle_stream(IOStream(connection), address)


class _Listener(socket.socket):
    """Pauses when no connection can be accepted: Tornado would retry at once, and log each try."""

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            log.error(
                "cannot accept a connection, next try in %g s: %s", ACCEPT_PAUSE_SECONDS, error.strerror
            )
            loop = IOLoop.current()
            loop.update_handler(self, 0)
            loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)
            raise BlockingIOError from error

    def _resume(self) -> None:
        if self.fileno() >= 0:  # not closed meanwhile
            IOLoop.current().update_handler(self, IOLoop.READ)


class _Stop:
    """SIGTERM or SIGINT: the first starts the drain, a second one ends it at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    @contextlib.contextmanager
    def cancelling(self, event: asyncio.Event) -> Iterator[None]:
        """Cancel the block when the event comes; what follows the block goes on."""
        task = asyncio.current_task()
        assert task

        def cancel(_: object) -> None:
            task.cancel()

        waiting = asyncio.ensure_future(event.wait())
        waiting.add_done_callback(cancel)
        try:
            yield
        except asyncio.CancelledError:
            if not waiting.done():
                raise
            task.uncancel()
        finally:
            waiting.remove_done_callback(cancel)
            waiting.cancel()

    def _on_signal(self) -> None:
        (self.forced if self.requested.is_set() else self.requested).set()


class _ConnectionCountingServer(HTTPServer):
    """Counts its open connections; ``idle`` is set while there is none."""

    def initialize(self, runtime: Runtime, app: Application) -> None:  # type: ignore[override]  # Tornado's constructor
        config = runtime.config
        super().initialize(
            Host(runtime, app),
            xheaders=True,
            # A handler may block the loop for as long as a job may take; no connection is idle meanwhile.
            idle_connection_timeout=config.slow_timeout_seconds + IDLE_CONNECTION_SECONDS,
            max_body_size=config.max_body_bytes,
            max_buffer_size=max(BUFFER_BYTES, config.max_body_bytes, _largest_message(app)),
        )
        self.connections = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        self.connections += 1
        self.idle.clear()
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return RequestGuard(super().start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self.connections -= 1
        if not self.connections:
            self.idle.set()


def _largest_message(app: Application) -> int:
    """The largest message of a WebSocket, in bytes."""
    return int(app.settings.get("websocket_max_message_size") or 0)
