"""run: a task for the request that is being handled, in a worker of the slow pool."""

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from tornado.web import RequestHandler

from slowpool import instance
from slowpool.config import Pool
from slowpool.errors import CannotHandOver, ClientGone, RequestError
from slowpool.instance import Runtime
from slowpool.observe import tracing
from slowpool.web.exchange import ASK, HANDED_OVER, Exchange, current

P = ParamSpec("P")
T = TypeVar("T")


async def run(task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """See slowpool.run."""
    exchange = current.get()
    runtime = exchange.runtime if exchange else instance.serving
    if runtime is None:
        call = functools.partial(task, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(None, call)
    if runtime.instance.pool is not Pool.FAST:
        try:
            return await _run_job(runtime, exchange, task, args, kwargs)
        except RequestError as error:
            if exchange and exchange.has_begun:  # nothing of it reaches the client
                exchange.log(error)
            raise
    if exchange is None:
        raise CannotHandOver("there is no request: a fast instance has no workers of its own")
    return await _hand_over(exchange)


async def _run_job(
    runtime: Runtime,
    exchange: Exchange | None,
    task: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> T:
    if exchange is None:
        return await runtime.workers.submit(task, *args, kwargs=kwargs).result()
    if exchange.gone:
        raise ClientGone("the client closed the connection")
    if exchange.handed_over:
        await _hand_over(exchange)
    if exchange.ended and not exchange.upgraded:
        raise RuntimeError("slowpool.run: the request has been answered, and its jobs end with it")
    runtime.asks.add(exchange.route or "")
    if not exchange.has_begun and (ask := runtime.asks.before_job(exchange.asks)):
        await _hand_over(exchange, ASK + ask)
    exchange.asks = []  # a request that has run a job stays here
    job = runtime.workers.submit(
        task,
        *args,
        kwargs=kwargs,
        timeout=_timeout_seconds(runtime, exchange),
        request_id=exchange.request_id,
        route=exchange.route or "",
    )
    exchange.jobs.add(job)
    try:
        return await job.result()
    except asyncio.CancelledError:
        if exchange.gone:
            raise ClientGone("the client closed the connection") from None
        raise
    finally:
        exchange.jobs.discard(job)
        exchange.job_seconds["queue_seconds"] += job.wait_seconds
        exchange.job_seconds["run_seconds"] += job.run_seconds
        queue_ms, run_ms = (seconds * 1000 for seconds in exchange.job_seconds.values())
        exchange.answer_headers["Server-Timing"] = f"queue;dur={queue_ms:.1f}, run;dur={run_ms:.1f}"
        tracing.job(job.submitted_at, job.started_at, job.run_seconds, job.worker_pid)


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
