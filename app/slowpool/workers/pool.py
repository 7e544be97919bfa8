"""WorkerPool: a bounded queue of jobs, and the worker processes that run them."""

import asyncio
import contextlib
import logging
import math
import pickle
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar, TypeVarTuple

from slowpool.config import Config
from slowpool.errors import (
    DeadlinePassed,
    Draining,
    NotPicklable,
    PoolFull,
    WorkerDied,
    WorkerTraceback,
)
from slowpool.observe.metrics import Metrics
from slowpool.workers.child import RAISED, RESULT
from slowpool.workers.handle import Worker

log = logging.getLogger("slowpool")

STOP_TIMEOUT_SECONDS = 1.0
"""What an idle worker gets to end by itself."""

RESTART_DELAY_SECONDS = (0.1, 3.0)
"""The first and the longest pause between tries to start a worker; 5 s after what stops it all is well."""

ESTIMATE_WEIGHT = 0.2
"""Weight of the newest job in the running estimate of the service time."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WorkerPool:
    """Runs tasks in worker processes: ``slow_workers`` at a time, ``slow_queue`` more may wait.

    Each place for a worker is a slot. Its own asyncio task starts the worker, gives it one job after
    the other and replaces it, so that a slot is free only when its worker is ready.
    """

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        self._waiting: deque[Job[Any]] = deque()
        self._idle: deque[asyncio.Future[Job[Any] | None]] = deque()
        self._running: set[Job[Any]] = set()
        self._slots: list[asyncio.Task[None]] = []
        self._service_seconds: float | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the workers; returns when all are ready."""
        ready = [asyncio.Event() for _ in range(self._config.slow_workers)]
        self._slots = [asyncio.create_task(self._serve(event)) for event in ready]
        for event in ready:
            await event.wait()

    async def run(self, task: Callable[[*Ts], T], *args: *Ts, timeout: float | None = None) -> T:
        """Run a task in a worker and return its result; ``timeout`` in seconds, waiting included.

        What the task raises is raised here, its cause a WorkerTraceback. When the caller is cancelled
        the job leaves the queue, or its worker is killed. Raises PoolFull, DeadlinePassed,
        NotPicklable, WorkerDied and Draining.
        """
        return await self.submit(task, *args, timeout=timeout).result()

    def submit(
        self,
        task: Callable[[*Ts], T],
        *args: *Ts,
        timeout: float | None = None,
        request_id: str = "",
        route: str = "",
    ) -> "Job[T]":
        """Accept a job, to be awaited by its ``result``. Raises PoolFull, NotPicklable and Draining."""
        timeout = self._config.slow_timeout_seconds if timeout is None else timeout
        job: Job[T] = Job(_pickle(task, args), timeout, request_id, route)
        if self._closed:
            raise Draining("the instance ends; ask again")
        job.outcome.add_done_callback(self._count)
        if self._hand_out(job):
            return job
        if len(self._waiting) >= self._config.slow_queue:
            self._metrics.job("refused")
            raise PoolFull(len(self._waiting), self.retry_after_seconds())
        if timeout <= 0:  # it may not wait, so it takes no place in the queue either
            job.fail_unstarted()
            return job
        self._waiting.append(job)
        self._watch_waiting(job)
        return job

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    @property
    def running_jobs(self) -> "Collection[Job[Any]]":
        """The jobs that run."""
        return self._running

    def retry_after_seconds(self) -> int:
        """When a job that is refused now could start, in whole seconds, at least 1.

        The jobs ahead of it, one more than wait, each take the service time, and ``slow_workers`` of
        them run at a time. The service time is a moving average over the jobs that have run, or the
        age of the oldest running one where that is longer.
        """
        now = asyncio.get_running_loop().time()
        ages = [now - job.started_at for job in self._running]
        service_seconds = max([self._service_seconds or 0, *ages])
        seconds = service_seconds * (len(self._waiting) + 1) / self._config.slow_workers
        return min(max(1, math.ceil(seconds)), math.ceil(self._config.slow_timeout_seconds))

    async def close(self) -> None:
        """End the workers. Jobs that run or wait fail with Draining, the workers of the former killed."""
        self._closed = True
        for job in [*self._waiting, *self._running]:
            job.fail(Draining("the instance ends; ask again"))
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._slots = []

    def _hand_out(self, job: "Job[Any]") -> bool:
        """Give the job to an idle slot, if there is one."""
        while self._idle:
            slot = self._idle.popleft()
            if not slot.done():  # its worker may just have died
                slot.set_result(job)
                return True
        return False

    def _watch_waiting(self, job: "Job[Any]") -> None:
        """Take the job out of the queue when it is given up, or its deadline passes."""

        def leave(_: object) -> None:
            with contextlib.suppress(ValueError):  # a slot has taken it in the same turn of the loop
                self._waiting.remove(job)

        job.outcome.add_done_callback(leave)
        expiry = asyncio.get_running_loop().call_at(job.deadline, job.fail_unstarted)

        def unwatch() -> None:
            expiry.cancel()
            job.outcome.remove_done_callback(leave)

        job.unwatch = unwatch

    async def _serve(self, ready: asyncio.Event) -> None:
        """The life of a slot."""
        delay, longest = RESTART_DELAY_SECONDS
        while True:
            worker = Worker(self._config)
            try:
                await worker.start()
                delay, _ = RESTART_DELAY_SECONDS
                if ready.is_set():
                    self._metrics.worker_restarted()
                ready.set()
                while not worker.exited.done() and not self._is_worn(worker):
                    job = await self._next_job(worker)
                    if job:
                        await self._run(worker, job)
                if worker.exited.done() and not worker.killed:
                    log.warning(
                        "worker %d %s", worker.pid, worker.exited.result(), extra={"worker": worker.pid}
                    )
            except OSError as error:
                log.error("cannot start a worker, next try in %g s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)
            finally:
                await worker.stop(STOP_TIMEOUT_SECONDS)

    def _is_worn(self, worker: Worker) -> bool:
        config = self._config
        return worker.jobs > 0 and bool(
            (config.slow_max_jobs and worker.jobs >= config.slow_max_jobs)
            or (config.slow_max_rss_bytes and worker.resident_bytes > config.slow_max_rss_bytes)
        )

    async def _next_job(self, worker: Worker) -> "Job[Any] | None":
        """The job that has waited longest, or the next to come; none when the idle worker ends."""
        if self._waiting:
            job = self._waiting.popleft()
            job.unwatch()
            return job
        slot: asyncio.Future[Job[Any] | None] = asyncio.get_running_loop().create_future()
        self._idle.append(slot)

        def on_exit(_: object) -> None:
            if not slot.done():
                slot.set_result(None)

        worker.exited.add_done_callback(on_exit)
        try:
            return await slot
        except asyncio.CancelledError:  # by close(), just when a job had come
            if slot.done() and not slot.cancelled() and (handed := slot.result()):
                handed.fail(Draining("the instance ends; ask again"))
            raise
        finally:
            worker.exited.remove_done_callback(on_exit)

    async def _run(self, worker: Worker, job: "Job[Any]") -> None:
        """One job on one worker, until it has replied or is gone."""
        if job.outcome.done():  # given up between the queue and here
            return
        if worker.has_died():  # while it was idle: the job has not started
            if not self._hand_out(job):
                self._waiting.appendleft(job)
                self._watch_waiting(job)
            await asyncio.wait([worker.exited])
            return
        loop = asyncio.get_running_loop()
        job.started_at = loop.time()
        job.worker_pid = worker.pid
        if job.started_at >= job.deadline:
            job.fail_unstarted()
            return
        self._running.add(job)
        self._metrics.job_wait.observe(job.wait_seconds)
        try:
            worker.send(job.request, job.request_id)
            ends: list[asyncio.Future[Any]] = [worker.reply, worker.exited, job.outcome]
            await asyncio.wait(
                ends,
                timeout=job.deadline - job.started_at,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:  # cancelled: close() ends the pool
            late = not worker.reply.done() and not worker.exited.done()
            if late:
                extra = {"request_id": job.request_id, "route": job.route, "worker": worker.pid}
                log.info("kills worker %d", worker.pid, extra=extra)
                await worker.kill()
            self._running.discard(job)
            job.run_seconds = loop.time() - job.started_at
            self._metrics.job_run.observe(job.run_seconds)
            self._learn(job.run_seconds)
        if late:
            job.fail(DeadlinePassed("the deadline passed before the job was done"))
        elif worker.reply.done():
            worker.end_job()
            job.end(worker.reply.result())
        else:
            log_message = f"worker {worker.pid} {worker.exited.result()}"
            job.fail(WorkerDied("the worker that ran the job died", log_message))

    def _count(self, outcome: "asyncio.Future[tuple[bytes, bytes]]") -> None:
        error = None if outcome.cancelled() else outcome.exception()
        if outcome.cancelled() or isinstance(error, Draining):
            self._metrics.job("cancelled")
        elif error:
            self._metrics.job("timeout" if isinstance(error, DeadlinePassed) else "died")
        else:
            kind, _ = outcome.result()
            self._metrics.job("ok" if kind == RESULT else "failed")

    def _learn(self, run_seconds: float) -> None:
        if self._service_seconds is None:
            self._service_seconds = run_seconds
        self._service_seconds += ESTIMATE_WEIGHT * (run_seconds - self._service_seconds)


class Job(Generic[T]):
    """One run of one task. ``wait_seconds`` and ``run_seconds`` are known when it has ended."""

    def __init__(self, request: bytes, timeout: float, request_id: str, route: str) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.request_id = request_id
        self.route = route
        self.submitted_at = self.started_at = loop.time()
        self.deadline = self.submitted_at + timeout
        self.run_seconds = 0.0
        self.worker_pid = 0
        self.unwatch: Callable[[], object]
        self.outcome: asyncio.Future[tuple[bytes, bytes]] = loop.create_future()

    @property
    def wait_seconds(self) -> float:
        """From its arrival to its start."""
        return self.started_at - self.submitted_at

    async def result(self) -> T:
        """Wait for the job's end; see WorkerPool.run for what it raises."""
        try:
            kind, body = await self.outcome
        finally:
            self.cancel()  # does nothing to a job that has ended
        # From a worker, which may have been taken over: so this instance is in the sandbox as well.
        answer = pickle.loads(body)  # nosec B301
        if kind == RESULT:
            return answer  # type: ignore[no-any-return]  # the task's own type
        if kind == RAISED:
            pickled, text = answer
            raise pickle.loads(pickled) from WorkerTraceback(text)  # nosec B301  # likewise
        what, text = answer
        raise NotPicklable(what) from WorkerTraceback(text)

    def cancel(self) -> None:
        """Give the job up: it leaves the queue, or its worker is killed."""
        self.outcome.cancel()

    def end(self, reply: tuple[bytes, bytes]) -> None:
        """Give the worker's reply to whoever waits, if anybody still does."""
        if not self.outcome.done():
            self.outcome.set_result(reply)

    def fail_unstarted(self) -> None:
        """Fail the job for a deadline that has passed before it could start."""
        self.started_at = asyncio.get_running_loop().time()
        self.fail(DeadlinePassed("the deadline passed before the job could start"))

    def fail(self, error: Exception) -> None:
        """Fail the job, unless it has ended."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def _pickle(task: Callable[..., object], args: tuple[object, ...]) -> bytes:
    """The request of a job. Raises NotPicklable, naming what cannot be pickled."""
    name = getattr(task, "__qualname__", "")
    if "<" in name or getattr(task, "__module__", "") == "__main__":
        raise NotPicklable(
            f"the task {name} is a lambda, a closure or defined in __main__: define it with def at the "
            "top level of a module that can be imported, and give it what it needs as arguments"
        )
    try:
        return pickle.dumps((task, args), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        for value in (task, *args):
            try:
                pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            except Exception as why:
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                raise NotPicklable(
                    f"an argument of {name}, of type {kind}, cannot be pickled: {why}"
                ) from error
        raise NotPicklable(f"the arguments of {name} cannot be pickled: {error}") from error
