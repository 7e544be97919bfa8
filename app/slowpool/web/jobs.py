"""run and stream: a task for the request that is being handled, in a worker of the slow pool."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

from tornado.web import RequestHandler

from slowpool import instance
from slowpool.config import Pool
from slowpool.errors import CannotHandOver, ClientGone, RequestError
from slowpool.instance import Runtime
from slowpool.observe import tracing
from slowpool.web.exchange import Exchange, current
from slowpool.web.nginx import ASK, HANDED_OVER
from slowpool.web.preferences import preferences
from slowpool.workers.job import Job, check_kind
from slowpool.workers.progress import Listener, Progress, listener

log = logging.getLogger("slowpool")

PROGRESS_SECONDS = 0.1
"""How often the progress of a job is looked at for its on_progress."""

ENDED = "slowpool: the request has been answered, and its jobs end with it"

T = TypeVar("T")


async def run(
    task: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], on_progress: Listener | None
) -> T:
    """See slowpool.run."""
    exchange = current.get()
    runtime = await _slow_runtime(exchange)
    if runtime is None:
        return await _run_in_thread(task, args, kwargs, on_progress)
    async with (
        _job(runtime, exchange, task, args, kwargs) as job,
        _telling(on_progress, lambda: job.progress, job.outcome),
    ):
        result: T = await job.result()
    return result


async def stream(
    task: Callable[..., Iterable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[T, None]:
    """See slowpool.stream."""
    exchange = current.get()
    runtime = await _slow_runtime(exchange)
    if runtime is None:
        items = _iterate_in_thread(task, args, kwargs)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item
        return
    async with (
        _job(runtime, exchange, task, args, kwargs, streamed=True) as job,
        contextlib.aclosing(job.items()) as items,
    ):
        async for item in items:
            yield item


async def _slow_runtime(exchange: Exchange | None) -> Runtime | None:
    """The instance, which has workers; None when there is none. A fast one hands the request over instead."""
    runtime = exchange.runtime if exchange else instance.serving
    if runtime is not None and runtime.instance.pool is Pool.FAST:
        if exchange is None:
            raise CannotHandOver("there is no request: a fast instance has no workers of its own")
        await _hand_over(exchange)
    return runtime


@contextlib.asynccontextmanager
async def _job(
    runtime: Runtime,
    exchange: Exchange | None,
    task: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    streamed: bool = False,
) -> AsyncGenerator[Job[Any], None]:
    """A job of the request, or of no request; at the end of the block it is over."""
    try:
        if exchange is None:
            with _cancelling(runtime.workers.submit(task, *args, kwargs=kwargs, streamed=streamed)) as job:
                yield job
            return
        if exchange.gone:
            raise _gone(exchange)
        if exchange.handed_over:
            await _hand_over(exchange)
        if exchange.ended and not exchange.upgraded:
            raise RuntimeError(ENDED)
        runtime.asks.add(exchange.route or "")
        await _accept(runtime, exchange)
        if not exchange.has_begun and not exchange.job_id and (ask := runtime.asks.before_job(exchange.asks)):
            await _hand_over(exchange, ASK + ask)
        exchange.asks = []  # a request that has run a job stays here
        job = runtime.workers.submit(
            task,
            *args,
            kwargs=kwargs,
            timeout=_timeout_seconds(runtime, exchange),
            request_id=exchange.request_id,
            route=exchange.route or "",
            streamed=streamed,
            accepted=bool(exchange.job_id),
            first=bool(exchange.job_id) and not exchange.has_run,
        )
        exchange.has_run = True
        exchange.jobs.add(job)
        try:
            with _cancelling(job):
                yield job
        except asyncio.CancelledError:
            if exchange.gone:
                raise _gone(exchange) from None
            raise
        finally:
            exchange.jobs.discard(job)
            _note_times(exchange, job)
    except RequestError as error:
        if exchange and exchange.has_begun:  # nothing of it reaches the client
            exchange.log(error)
        raise


async def _accept(runtime: Runtime, exchange: Exchange) -> None:
    """Before the first job: accept the request if its client would rather fetch the answer later.

    If no worker is idle, it ends the handler here, which runs from its start when one is.
    """
    if exchange.acceptance is None:
        if runtime.acceptor is None or exchange.has_run or "Prefer" not in exchange.request_headers:
            return
        exchange.acceptance = asyncio.ensure_future(runtime.acceptor.accept(exchange))
    await asyncio.shield(exchange.acceptance)  # other jobs of the request wait for it too
    if exchange.gone:
        raise _gone(exchange)
    if exchange.handed_over:
        await _hand_over(exchange)
    if exchange.ended:
        raise RuntimeError(ENDED)


def _gone(exchange: Exchange) -> ClientGone:
    return ClientGone("the job is given up" if exchange.job_id else "the client closed the connection")


@contextlib.contextmanager
def _cancelling(job: Job[Any]) -> Iterator[Job[Any]]:
    """Give the job up at the end of the block; one that has ended is not changed."""
    try:
        yield job
    finally:
        job.cancel()


def _note_times(exchange: Exchange, job: Job[Any]) -> None:
    exchange.job_seconds["queue_seconds"] += job.wait_seconds
    exchange.job_seconds["run_seconds"] += job.run_seconds
    queue_ms, run_ms = (seconds * 1000 for seconds in exchange.job_seconds.values())
    exchange.answer_headers["Server-Timing"] = f"queue;dur={queue_ms:.1f}, run;dur={run_ms:.1f}"
    tracing.job(job.submitted_at, job.submitted_at + job.wait_seconds, job.run_seconds, job.worker_pid)


@contextlib.asynccontextmanager
async def _telling(
    on_progress: Listener | None, read: Callable[[], Progress | None], outcome: "asyncio.Future[Any]"
) -> AsyncGenerator[None, None]:
    """Tell ``on_progress`` what ``read`` returns, until there is an outcome; also the newest before that."""
    if on_progress is None:
        yield
        return
    telling = asyncio.create_task(_tell(on_progress, read, outcome))
    try:
        yield
        await telling
    finally:  # it must not hold up an error or a cancellation
        telling.cancel()


async def _tell(
    on_progress: Listener, read: Callable[[], Progress | None], outcome: "asyncio.Future[Any]"
) -> None:
    told: Progress | None = None
    while True:
        ended = outcome.done()
        if (now := read()) and now != told:
            told = now
            try:
                answer = on_progress(*now)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                log.exception("on_progress failed, and is not called again for this job")
                return
        if ended:
            return
        await asyncio.wait([outcome], timeout=PROGRESS_SECONDS)


async def _run_in_thread(
    task: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], on_progress: Listener | None
) -> T:
    check_kind(task, streamed=False)
    newest: Progress | None = None

    def note(*told: Any) -> None:
        nonlocal newest
        newest = Progress(*told)

    def call() -> T:
        listener.set(note)
        return task(*args, **kwargs)

    context = contextvars.copy_context()
    outcome = asyncio.get_running_loop().run_in_executor(None, context.run, call)
    async with _telling(on_progress, lambda: newest, outcome):
        return await outcome


async def _iterate_in_thread(
    task: Callable[..., Iterable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[T, None]:
    check_kind(task, streamed=True)
    one_at_a_time = threading.Lock()  # the thread of an iteration that is cancelled goes on to the next item
    end: Any = object()

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with one_at_a_time:
            return function(*arguments)

    loop = asyncio.get_running_loop()
    iterator = iter(await loop.run_in_executor(None, call, functools.partial(task, *args, **kwargs)))
    try:
        while (item := await loop.run_in_executor(None, call, next, iterator, end)) is not end:
            yield item
    finally:
        await loop.run_in_executor(None, call, getattr(iterator, "close", lambda: None))


async def _hand_over(exchange: Exchange, location: str = HANDED_OVER) -> NoReturn:
    """Send the request on and end its handler here, which runs again from its start in the slow pool.

    The handler's task is cancelled, which ``except Exception`` does not catch; its on_finish is called.
    """
    handler = exchange.handler
    exchange.hand_over(location)
    if handler:
        _end_quietly(handler)
    for task in {asyncio.current_task(), _task_of(handler)}:
        if task:
            task.cancel("sent on to the slow pool")
    await asyncio.get_running_loop().create_future()  # the cancellation comes here
    raise AssertionError("unreachable")


def _end_quietly(handler: RequestHandler) -> None:
    """Have Tornado finish the handler without an error page and a log line, which the slow pool has."""
    finish = handler.finish
    handler._log = lambda: None  # type: ignore[method-assign]
    handler.send_error = lambda *_, **__: finish()  # type: ignore[method-assign,assignment]


def _task_of(handler: RequestHandler | None) -> "asyncio.Task[Any] | None":
    """The asyncio task that runs a handler; ``run`` may have been called in one that the handler started."""
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        frame = getattr(coroutine, "cr_frame", None)
        if (
            frame
            and frame.f_code is RequestHandler._execute.__code__
            and frame.f_locals.get("self") is handler
        ):
            return task
    return None


def _timeout_seconds(runtime: Runtime, exchange: Exchange) -> float:
    """The time that is left of the configured one, or of what the client prefers: RFC 7240, 4.3.

    It counts from the first arrival of the request, or the start of an accepted one; on a WebSocket, from
    now.
    """
    if exchange.job_id:
        seconds: float = runtime.config.job_timeout_seconds
    else:
        seconds = runtime.config.slow_timeout_seconds
        if exchange.upgraded:
            return seconds
        wait = preferences(exchange.request_headers).wait
        if wait is not None and wait < seconds:
            exchange.answer_headers["Preference-Applied"] = f"wait={wait}"
            seconds = wait
    return seconds - (time.monotonic() - exchange.arrived_at)
