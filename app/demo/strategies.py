"""All common ways to run slow work next to a Tornado loop, each with the same work.

Use the worker pool. The others are for comparison: they cannot cancel a job, have no deadline and do not
refuse work when they are full.
"""

import asyncio
import atexit
import multiprocessing
import multiprocessing.pool
import pickle
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing.pool import AsyncResult
from typing import Any, TypeVar

from tornado.ioloop import IOLoop

import slowpool
from demo.handlers import DemoHandler
from demo.tasks import factorials
from slowpool.config import Config
from slowpool.workers.pool import worker_count

R = TypeVar("R")

PROCESSES = multiprocessing.get_context("spawn")
"""Not "fork": a forked child has copies of the listening socket and of every client's connection."""

LOST_WORKER_POLL_SECONDS = 0.1


class FactorialHandler(DemoHandler):
    """Does the work in the way of the subclass, then answers ``slow result {id} <--- {seconds} s``."""

    async def get(self) -> None:
        result_id, n = self.result_id(), self.integer("n", default=2000, minimum=1, maximum=20_000)
        self.text(f"slow result {result_id} <--- {await self.work(n):.3f} s")

    async def work(self, n: int) -> float:
        raise NotImplementedError


class InlineHandler(FactorialHandler):
    """On the instance's own thread, which blocks the instance: the mistake that this demo shows.

    Under ``/slow`` it only ever blocks the slow pool. As ``/stall`` it blocks each fast instance once, which
    then sends the route to the slow pool.
    """

    async def work(self, n: int) -> float:
        return factorials(n)


class ThreadHandler(FactorialHandler):
    """In a thread of the loop's executor: it does not block the loop, but competes with it for the GIL."""

    async def work(self, n: int) -> float:
        return await IOLoop.current().run_in_executor(None, factorials, n)


class ProcessHandler(FactorialHandler):
    """In a new process for each request, watched by a thread; the number of processes has no limit.

    With the more usual Queue a request hangs when its process dies; a pipe reports the end of the process.
    """

    async def work(self, n: int) -> float:
        loop, done = IOLoop.current(), asyncio.get_running_loop().create_future()
        receiver, sender = PROCESSES.Pipe(duplex=False)

        def watch() -> None:
            try:
                process = PROCESSES.Process(target=_send_factorials, args=(sender, n))
                process.start()
                sender.close()  # the pipe then closes when the process ends
                loop.add_callback(done.set_result, receiver.recv())
                process.join()
            except (EOFError, OSError) as error:
                loop.add_callback(done.set_exception, RuntimeError(f"the process died: {error!r}"))

        threading.Thread(target=watch, daemon=True).start()
        return float(await done)


class ExecutorHandler(FactorialHandler):
    """In a ProcessPoolExecutor, which one dead worker breaks permanently."""

    async def work(self, n: int) -> float:
        return await IOLoop.current().run_in_executor(_executor(), factorials, n)


class PoolHandler(FactorialHandler):
    """In a multiprocessing.Pool made awaitable."""

    async def work(self, n: int) -> float:
        return await awaitable_pool().apply_async(factorials, (n,))


class WorkerHandler(FactorialHandler):
    """In this project's worker pool: the recommended way, on any path."""

    async def work(self, n: int) -> float:
        return await slowpool.run(factorials, n)


class PoolTestHandler(PoolHandler):
    """Awaits one task that works and one that raises, and answers with both."""

    async def get(self) -> None:
        done = await awaitable_pool().apply_async(succeed)
        try:
            await awaitable_pool().apply_async(fail)
        except Exception as error:
            self.text(f"{done}\nCaught an exception: {error.__cause__}")


class AwaitablePool:
    """A multiprocessing.Pool whose results can be awaited.

    A task's exception is raised where the task is awaited; its cause has the worker's traceback. No call
    hangs. When a worker dies, all pending calls fail, because the pool does not know which call the worker
    had, and a new pool replaces this one. A result that cannot be unpickled would
    end the pool's own thread; it is detected in the worker and raised as an error.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool = PROCESSES.Pool(processes)

    async def apply_async(self, task: Callable[..., R], args: Iterable[Any] = ()) -> R:
        """Await ``task(*args)``."""
        result: R = await self._settle("apply_async", partial(_guarded, task), args)
        return result

    async def map_async(self, task: Callable[[Any], R], items: Iterable[Any]) -> list[R]:
        """Await the list of ``task(item)``."""
        results: list[R] = await self._settle("map_async", partial(_guarded, task), items)
        return results

    async def starmap_async(self, task: Callable[..., R], items: Iterable[Iterable[Any]]) -> list[R]:
        """Await the list of ``task(*item)``."""
        results: list[R] = await self._settle("starmap_async", partial(_guarded, task), items)
        return results

    async def _settle(self, method: str, task: Any, items: Iterable[Any]) -> Any:
        loop, pool = asyncio.get_running_loop(), self._pool
        settled = asyncio.Event()
        workers = _workers(pool)
        result: AsyncResult[Any] = getattr(pool, method)(
            task,
            items,
            callback=lambda _: loop.call_soon_threadsafe(settled.set),
            error_callback=lambda _: loop.call_soon_threadsafe(settled.set),
        )
        while not result.ready():
            try:
                await asyncio.wait_for(settled.wait(), LOST_WORKER_POLL_SECONDS)
            except TimeoutError:
                if not workers <= _workers(pool) and not result.ready():
                    self._replace(pool)
                    raise RuntimeError("a worker of the pool died") from None
        return result.get()

    def _replace(self, broken: multiprocessing.pool.Pool) -> None:
        """Start a new pool: the killed worker may have held a lock that all others wait for."""
        if self._pool is broken:
            self._pool = PROCESSES.Pool(self._processes)
            threading.Thread(target=broken.terminate, daemon=True).start()  # it may wait for that lock too

    def close(self) -> None:
        """End the workers."""
        self._pool.terminate()
        self._pool.join()


@cache
def awaitable_pool() -> AwaitablePool:
    """The pool of this instance, made by the first request that needs it."""
    pool = AwaitablePool(_processes())
    atexit.register(pool.close)
    return pool


def succeed() -> str:
    return "done"


def fail() -> None:
    raise Exception("eeee")


@cache
def _executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(_processes(), mp_context=PROCESSES)


def _processes() -> int:
    """As many as a slow instance has workers."""
    return worker_count(Config.load())


def _guarded(task: Callable[..., R], *args: Any) -> R:
    """Call the task, and check that the instance can unpickle its result or exception."""
    try:
        result = task(*args)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # nosec B301  # its own
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
    pickle.loads(pickle.dumps(result))  # nosec B301  # its own
    return result


def _send_factorials(sender: Any, n: int) -> None:
    sender.send(factorials(n))


def _workers(pool: multiprocessing.pool.Pool) -> set[int]:
    return {process.pid for process in pool._pool}  # type: ignore[attr-defined]  # it has no public name


routes = [
    (r"/slow", InlineHandler),
    (r"/stall", InlineHandler),
    (r"/slow_threaded", WorkerHandler),
    (r"/report", WorkerHandler),
    (r"/slow/worker", WorkerHandler),
    (r"/slow/thread", ThreadHandler),
    (r"/slow/process", ProcessHandler),
    (r"/slow/executor", ExecutorHandler),
    (r"/slow/pool", PoolHandler),
    (r"/slow/test", PoolTestHandler),
]
