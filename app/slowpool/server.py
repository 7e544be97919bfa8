"""One instance from start to end: load the application, listen, serve, SIGTERM, drain, exit."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from tornado import autoreload
from tornado.netutil import bind_sockets
from tornado.web import Application

from slowpool import instance
from slowpool.config import Config, Instance, Pool
from slowpool.errors import ConfigError
from slowpool.http.connection import Limits
from slowpool.http.forms import limit_parsing
from slowpool.http.server import Server
from slowpool.http.tornado_server import TornadoServer
from slowpool.instance import Runtime, State
from slowpool.jobs.acceptor import Acceptor
from slowpool.jobs.handlers import job_routes
from slowpool.jobs.runner import Runner
from slowpool.jobs.store import StoreError
from slowpool.jobs.stores import make_store
from slowpool.linux.processes import adopt_orphans
from slowpool.linux.scheduling import SHORT_SLICE_SECONDS, request_slice
from slowpool.observe import logs
from slowpool.observe.history import step_number
from slowpool.observe.inherited import Inherited
from slowpool.observe.loop_watch import LoopWatch
from slowpool.observe.news import Messenger
from slowpool.observe.release import release
from slowpool.status.system import system_application
from slowpool.web.host import Host
from slowpool.web.load import lifespan, load
from slowpool.workers import warm

log = logging.getLogger("slowpool")

IDLE_CONNECTION_SECONDS = 60
"""When an idle connection is closed. Far above nginx's upstream ``keepalive_timeout`` of 3 s: nginx
closes first, and never sends a request on a connection that is being closed here."""

SERVERS: dict[str, type[Server | TornadoServer]] = {"slowpool": Server, "tornado": TornadoServer}
"""HTTP_SERVER -> the class."""

LAST_ANSWERS_SECONDS = 1.0
"""Time for the answers to jobs that the drain timeout has cut off."""

LOOK_SECONDS = 0.05
"""How often a drain looks whether something is still open."""

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
    # A handler may block the loop for as long as a job may take; no connection is idle meanwhile.
    limits = Limits(
        body_bytes=config.max_body_bytes,
        detached_bytes=max(Limits.detached_bytes, _largest_message(app)),
        idle_seconds=config.slow_timeout_seconds + IDLE_CONNECTION_SECONDS,
    )
    logs.skip_unread_lines()
    host = Host(runtime, app)
    server = SERVERS[config.http_server](host, limits)
    runner = await _start_jobs(runtime, app, host) if own.pool is not Pool.FAST else None
    gc.collect()
    gc.freeze()  # these objects stay; each later collection of them would stop the loop for 6 ms
    for listener in _bind(own):  # last: the port accepts connections only once the instance is ready
        server.listen(listener)
    runtime.state = State.READY
    if runner:
        runner.start()
    # A slow instance may block.
    budget_seconds = 0 if own.pool is Pool.SLOW else config.fast_block_budget_seconds
    loop_watch = LoopWatch(
        runtime.metrics, runtime.learned, runtime.events, runtime.heartbeat, budget_seconds
    )
    log.info("%s is ready", own)
    messenger = Messenger(config, own, runtime.events, runtime.started_at)
    messenger.start()
    runtime.events.add("ready", _how_ready(runtime))
    if reload:
        autoreload.start()

    await stop.requested.wait()
    loop_watch.close()
    await _drain(runtime, server, runner, stop)
    await _first(messenger.close(lambda: _history(runtime)), stop.forced.wait())


def _how_ready(runtime: Runtime) -> str:
    before = runtime.heartbeat.before.at
    seconds = time.monotonic() - before
    again = f" again, {seconds:.1f} s after its last sign of life" if before and seconds >= 0 else ""
    return f"is ready{again}; release {release()}"


def _history(runtime: Runtime) -> Inherited:
    """What an instance that ends leaves to another one: its own steps, and those that it has inherited."""
    own = Inherited(processes={runtime.process_id: step_number()}, steps=runtime.metrics.history.steps())
    return runtime.inherited.plus(own)


async def _start_jobs(runtime: Runtime, app: Application, host: Host) -> Runner:
    """Have requests accepted, and their answers served."""
    store = make_store(runtime.config)
    try:
        await store.open()
    except StoreError as error:  # it may come later
        log.error("no request can be accepted now: %s", error)
    runner = Runner(runtime, store, make_store(runtime.config), host)
    runtime.acceptor = acceptor = Acceptor(runtime, store, app, runner)
    runtime.find_job_handler = job_routes(runtime, acceptor, app)
    return runner


async def _drain(
    runtime: Runtime, server: Server | TornadoServer, runner: Runner | None, stop: "_Stop"
) -> None:
    """Accept nothing new and finish what was accepted, until the timeout or a second signal."""
    timeout_seconds = runtime.config.drain_timeout_seconds
    runtime.state = State.DRAINING
    log.info("%s drains %d connections", runtime.instance, server.connections)
    runtime.events.add("drain", f"drains {server.connections} connections")
    if runtime.rolling:
        runtime.rolling.cancel()
        await asyncio.wait([runtime.rolling])  # it says where it has stopped
    await server.stop_listening()
    _end_streams(runtime)
    all_gone = _all_gone(runtime, server, runner)
    await _first(all_gone, stop.forced.wait(), timeout_seconds=timeout_seconds)
    if server.connections:
        reason = "a second signal" if stop.forced.is_set() else f"{timeout_seconds:g} s"
        log.warning("%s cuts %d connections after %s", runtime.instance, server.connections, reason)
    if runner:
        await runner.close()
    await runtime.workers.close()  # a job that is cut off here is still answered
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_all_gone(runtime, server, runner), LAST_ANSWERS_SECONDS)
    await server.close_all()


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


async def _all_gone(runtime: Runtime, server: Server | TornadoServer, runner: Runner | None) -> None:
    while server.connections or runtime.websockets or (runner and runner.runs):
        runtime.close_websockets()  # those too that have opened since, or whose jobs are done by now
        await asyncio.sleep(LOOK_SECONDS)


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
        family = socket.AF_INET6 if ":" in own.address else socket.AF_INET
        return bind_sockets(own.port, own.address, family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {own.address}:{own.port}: {error.strerror}") from error


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


def _largest_message(app: Application) -> int:
    """The largest message of a WebSocket, in bytes."""
    return int(app.settings.get("websocket_max_message_size") or 0)
