"""run and stream: a task for the request that is being handled, in a worker of the slow pool."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

from tornado.web import RequestHandler

from slowpool import instance
from slowpool.config import Pool
from slowpool.errors import CannotHandOver, ClientGone, RequestError
from slowpool.instance import Runtime
from slowpool.observe import tracing
from slowpool.web.exchange import Exchange, current
from slowpool.workers.job import Job
from slowpool.workers.progress import Listener, Progress, listener

log = logging.getLogger("slowpool")

PROGRESS_SECONDS = 0.1
"""How often the progress of a job is looked at for its on_progress."""

T = TypeVar("T")


async def run(
    task: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], on_progress: Listener | None
) -> T:
    """See slowpool.run."""
    exchange = current.get()
    runtime = await _slow_runtime(exchange)
    if runtime is None:
        return await _run_in_thread(functools.partial(task, *args, **kwargs), on_progress)
    with _job(runtime, exchange, task, args, kwargs) as job:
        telling = asyncio.ensure_future(_tell(job, on_progress)) if on_progress else None
        try:
            result: T = await job.result()
            if telling:
                await telling
        finally:  # on_progress must not hold up an error or a cancellation
            if telling:
                telling.cancel()
    return result


async def stream(
    task: Callable[..., Iterable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[T, None]:
    """See slowpool.stream."""
    exchange = current.get()
    runtime = await _slow_runtime(exchange)
    if runtime is None:
        items = _iterate_in_thread(functools.partial(task, *args, **kwargs))
        async with contextlib.aclosing(items):
            async for item in items:
                yield item
        return
    with _job(runtime, exchange, task, args, kwargs, streamed=True) as job:
        async with contextlib.aclosing(job.items()) as items:
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


@contextlib.contextmanager
def _job(
    runtime: Runtime,
    exchange: Exchange | None,
    task: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    streamed: bool = False,
) -> Iterator[Job[Any]]:
    """A job of the request, or of no request; at the end of the block it is over."""
    try:
        if exchange is None:
            with _cancelling(runtime.workers.submit(task, *args, kwargs=kwargs, streamed=streamed)) as job:
                yield job
            return
        if exchange.gone:
            raise ClientGone("the client closed the connection")
        if exchange.ended and not exchange.upgraded:
            raise RuntimeError("slowpool: the request has been answered, and its jobs end with it")
        job = runtime.workers.submit(
            task,
            *args,
            kwargs=kwargs,
            timeout=_timeout_seconds(runtime, exchange),
            request_id=exchange.request_id,
            route=exchange.route or "",
            streamed=streamed,
        )
        exchange.jobs.add(job)
        try:
            with _cancelling(job):
                yield job
        except asyncio.CancelledError:
            if exchange.gone:
                raise ClientGone("the client closed the connection") from None
            raise
        finally:
            exchange.jobs.discard(job)
            _note_times(exchange, job)
    except RequestError as error:
        if exchange and exchange.has_begun:  # nothing of it reaches the client
            exchange.log(error)
        raise


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


async def _tell(job: Job[Any], on_progress: Listener) -> None:
    """Call ``on_progress`` when the job has made progress, until it has ended."""
    told: Progress | None = None
    while True:
        ended = job.outcome.done()
        if (now := job.progress) and now != told:
            told = now
            try:
                await _call(on_progress, now)
            except Exception:
                log.exception("on_progress failed, and is not called again for this job")
                return
        if ended:
            return
        await asyncio.wait([job.outcome], timeout=PROGRESS_SECONDS)


async def _call(on_progress: Listener, told: Iterable[Any]) -> None:
    answer = on_progress(*told)
    if inspect.isawaitable(answer):
        await answer


async def _run_in_thread(call: Callable[[], T], on_progress: Listener | None) -> T:
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    if on_progress:

        def tell(*told: Any) -> None:
            loop.call_soon_threadsafe(lambda: asyncio.ensure_future(_call(on_progress, told)))

        context.run(listener.set, tell)
    return await loop.run_in_executor(None, context.run, call)


async def _iterate_in_thread(call: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    loop = asyncio.get_running_loop()
    iterator = iter(await loop.run_in_executor(None, call))
    end: Any = object()
    try:
        while (item := await loop.run_in_executor(None, next, iterator, end)) is not end:
            yield item
    finally:
        close = getattr(iterator, "close", lambda: None)
        await loop.run_in_executor(None, close)


async def _hand_over(exchange: Exchange) -> NoReturn:
    """Hand the request over and end its handler here, which runs again from its start in the slow pool.

    The handler's task is cancelled, which ``except Exception`` does not catch; its on_finish is called.
    """
    handler = exchange.handler
    exchange.hand_over()
    if handler:
        _end_quietly(handler)
    for task in {asyncio.current_task(), _task_of(handler)}:
        if task:
            task.cancel("handed over to the slow pool")
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

    It counts from the first arrival of the request; on a WebSocket, from now.
    """
    seconds: float = runtime.config.slow_timeout_seconds
    if exchange.upgraded:
        return seconds
    for preference in _PREFERENCE.findall(",".join(exchange.request_headers.get_list("Prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and re.fullmatch("[0-9]{1,9}", value):
            if int(value) < seconds:
                exchange.answer_headers["Preference-Applied"] = f"wait={value}"
            seconds = min(seconds, int(value))
            break
    return seconds - (asyncio.get_running_loop().time() - exchange.arrived_at)


_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # a comma in quotes is no separator
