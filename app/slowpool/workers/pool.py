"""WorkerPool: runs jobs in a fixed number of worker processes."""

import asyncio
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

from slowpool.config import Config
from slowpool.errors import CutOff, DeadlinePassed, Draining, PoolFull, WorkerDied
from slowpool.linux.scheduling import count_cpus
from slowpool.observe.events import Events
from slowpool.observe.metrics import Metrics
from slowpool.workers.failures import Failures
from slowpool.workers.handle import WorkerHandle
from slowpool.workers.job import Job, name_of, pickle_request
from slowpool.workers.queue import JobQueue
from slowpool.workers.refusals import Refusals
from slowpool.workers.spawner import RESTART_DELAY_SECONDS, Spawner
from slowpool.workers.wire import RESULT, Reply

log = logging.getLogger("slowpool")

STOP_TIMEOUT_SECONDS = 1.0
"""How long an idle worker may take to end before it is killed."""

ESTIMATE_WEIGHT = 0.2
"""Weight of the newest job in the moving average of the service time."""

SHUTTING_DOWN = "this instance is shutting down; try again"

NO_KWARGS: Mapping[str, Any] = {}

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WorkerPool:
    """Runs tasks in worker processes: ``size`` at a time, and ``slow_queue`` more may wait.

    Each place for a worker is a slot. The asyncio task of a slot starts the worker, gives it one job after
    the other and replaces it. A slot is idle only when its worker is ready.
    """

    def __init__(self, config: Config, metrics: Metrics | None = None, events: Events | None = None) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        self.size = worker_count(config)
        self.waiting_jobs = JobQueue()
        self._idle: deque[asyncio.Future[Job[Any] | None]] = deque()
        self.running_jobs: dict[Job[Any], WorkerHandle] = {}
        self._spawner = Spawner(config)
        self._slots: list[asyncio.Task[None]] = []
        self._service_seconds: float | None = None
        self._has_cut_jobs_off = False
        self._refusals = Refusals(events or Events())
        self.failures = Failures()
        self.jobs_since_accepted = 0
        self.on_start: Callable[[], None] = lambda: None  # called when a job has begun
        self._closed = False

    async def start(self, modules: Sequence[str] = ()) -> None:
        """Start the workers; returns when all are ready. Raises AppError when a warm function fails.

        They have the module of APP, and these, from their start.
        """
        self._spawner.modules += modules
        await self._spawner.start()
        ready = [asyncio.Event() for _ in range(self.size)]
        self._slots = [asyncio.create_task(self._run_slot(event)) for event in ready]
        for event in ready:
            await event.wait()

    def submit(
        self,
        task: Callable[[*Ts], T],
        *args: *Ts,
        kwargs: Mapping[str, Any] = NO_KWARGS,
        timeout: float | None = None,
        request_id: str = "",
        route: str = "",
        streamed: bool = False,
        accepted: bool = False,
        first: bool = False,
    ) -> Job[T]:
        """Accept a job of ``task(*args, **kwargs)``; ``timeout`` includes its wait.

        One of an ``accepted`` request, whose turn it was, is never refused; its ``first`` one is the next.

        Raises PoolFull, NotPicklable, WrongTask and Draining.
        """
        timeout = self._config.slow_timeout_seconds if timeout is None else timeout
        if self._closed:
            raise Draining(SHUTTING_DOWN)
        if not self.has_room and not accepted:
            self._metrics.job("refused")
            self._refusals.add(len(self.waiting_jobs))
            raise PoolFull(len(self.waiting_jobs), self.retry_after_seconds())
        request = pickle_request(task, args, kwargs, streamed=streamed)
        job: Job[T] = Job(request, timeout, request_id, route, name_of(task), streamed=streamed)
        job.accepted = accepted
        job.outcome.add_done_callback(functools.partial(self._count, job))
        job.on_raised = self.failures.add_raised
        if self._give_to_idle_slot(job):
            return job
        if timeout <= 0:  # it may not wait, so it must not take a place in the queue
            job.fail_unstarted()
            return job
        if first:
            self.waiting_jobs.put_back(job)
        else:
            self.waiting_jobs.append(job)
        return job

    @property
    def has_idle_worker(self) -> bool:
        """Whether a job could run now."""
        return any(not slot.done() for slot in self._idle)

    @property
    def idle_workers(self) -> int:
        """How many jobs could run now."""
        return sum(not slot.done() for slot in self._idle)

    @property
    def has_room(self) -> bool:
        """Whether a job could run or wait now."""
        return self.has_idle_worker or len(self.waiting_jobs) < self._config.slow_queue

    def retry_after_seconds(self) -> int:
        """When a job that is refused now could start, in whole seconds, at least 1.

        The waiting jobs and the refused one each take the service time, and ``size`` of them run at a time.
        """
        seconds = self.estimate_seconds(len(self.waiting_jobs) + 1)
        return min(max(1, math.ceil(seconds)), math.ceil(self._config.slow_timeout_seconds))

    def estimate_seconds(self, jobs: int) -> float:
        """How long so many jobs take, of which ``size`` run at a time.

        The service time of each is a moving average over the jobs that have ended by themselves, or the age
        of the oldest running job if that is longer. While all that have run were cut off, it is the longest
        time allowed.
        """
        known_seconds = self._service_seconds
        if known_seconds is None:
            known_seconds = self._config.slow_timeout_seconds if self._has_cut_jobs_off else 0
        return max([known_seconds, *(job.run_seconds for job in self.running_jobs)]) * jobs / self.size

    @property
    def template_pid(self) -> int:
        """The process that starts the workers; 0 before there is one."""
        return self._spawner.template_pid

    @property
    def forks(self) -> bool:
        """Whether workers are forked from the template; otherwise it starts each afresh."""
        return self._spawner.forks

    async def close(self) -> None:
        """Stop the workers. Waiting jobs fail with Draining, running ones with CutOff."""
        self._closed = True
        for job in list(self.waiting_jobs):
            job.fail(Draining(SHUTTING_DOWN))
        for job in self.running_jobs:
            job.fail(CutOff("this instance is shutting down, and the job took too long for it"))
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._slots = []
        await self._spawner.close()

    def cancel(self, job: Job[Any]) -> None:
        """End a job for an operator: its worker is killed, or it leaves the queue; its request fails."""
        when = "while it ran" if job in self.running_jobs else "before it could start"
        job.fail(CutOff(f"an operator cancelled the job {when}"))

    async def stack(self, job: Job[Any]) -> tuple[list[str], bool]:
        """Where a running job is: see WorkerHandle.stack. Raises KeyError for one that does not run."""
        found = await self.running_jobs[job].stack()
        if job not in self.running_jobs:  # it may be the stack of the next one
            raise KeyError(job)
        return found

    def _give_to_idle_slot(self, job: Job[Any]) -> bool:
        """Give the job to an idle slot; returns whether there was one."""
        while self._idle:
            slot = self._idle.popleft()
            if not slot.done():  # its worker may just have died
                slot.set_result(job)
                return True
        return False

    def _pass_on(self, job: Job[Any]) -> None:
        """Give a job that has not begun to another slot, or let it be the next."""
        if not job.outcome.done() and not self._give_to_idle_slot(job):
            self.waiting_jobs.put_back(job)

    async def _run_slot(self, ready: asyncio.Event) -> None:
        """Keep one worker running, and give it jobs, until cancelled."""
        delay, longest = RESTART_DELAY_SECONDS
        while True:
            worker = WorkerHandle(self._config, self._spawner)
            try:
                await worker.start()
                delay, _ = RESTART_DELAY_SECONDS
                if ready.is_set():
                    self._metrics.worker_restarted()
                ready.set()
                while not worker.exited.done() and not self._is_worn(worker):
                    job = await self._next_job(worker)
                    if job:
                        await self._run_job(worker, job)
                if worker.exited.done() and not worker.killed:
                    extra = {"worker": worker.pid}
                    log.warning("worker %d %s", worker.pid, worker.exited.result(), extra=extra)
            except OSError as error:
                log.error("cannot start a worker, next try in %g s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)
            except Exception:  # a fault of ours must not cost the pool a slot
                log.exception("a worker failed, next try in %g s", longest)
                await asyncio.sleep(longest)
            finally:
                await worker.stop(STOP_TIMEOUT_SECONDS)

    def _is_worn(self, worker: WorkerHandle) -> bool:
        config = self._config
        return worker.jobs > 0 and bool(
            worker.has_children  # what a job has started ends with it
            or (config.slow_max_jobs and worker.jobs >= config.slow_max_jobs)
            or (config.slow_max_rss_bytes and worker.added_bytes > config.slow_max_rss_bytes)
        )

    async def _next_job(self, worker: WorkerHandle) -> Job[Any] | None:
        """The job that has waited longest, or the next to come; None when the idle worker ends."""
        if self.waiting_jobs:
            return self.waiting_jobs.pop()
        slot: asyncio.Future[Job[Any] | None] = asyncio.get_running_loop().create_future()
        self._idle.append(slot)

        def on_exit(_: object) -> None:
            if not slot.done():
                slot.set_result(None)

        worker.exited.add_done_callback(on_exit)
        try:
            return await slot
        except asyncio.CancelledError:  # by close(), perhaps just after a job was given to this slot
            if slot.done() and not slot.cancelled() and (job := slot.result()):
                job.fail(Draining(SHUTTING_DOWN))
            raise
        finally:
            worker.exited.remove_done_callback(on_exit)

    async def _run_job(self, worker: WorkerHandle, job: Job[Any]) -> None:
        """Run the job on the worker; returns when the worker has replied or is gone."""
        if job.outcome.done():  # given up between the queue and here
            return
        if worker.has_died():  # while it was idle: the job has not started
            self._pass_on(job)
            await worker.stop(STOP_TIMEOUT_SECONDS)
            return
        job.started_at = time.monotonic()
        if job.started_at >= job.deadline:
            job.fail_unstarted()
            return
        self.running_jobs[job] = worker
        self.jobs_since_accepted = 0 if job.accepted else self.jobs_since_accepted + 1
        self.on_start()
        self._metrics.job_wait.observe(job.wait_seconds)
        where: list[str] | None = None
        try:
            worker.send(job)
            ends: list[asyncio.Future[Any]] = [worker.reply, worker.exited, job.outcome]
            timeout = job.deadline - job.started_at
            done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                where, _ = await worker.stack()
        except Exception:  # a fault of ours must cost neither the client its answer nor the pool the slot
            log.exception("worker %d cannot run a job", worker.pid, extra={"worker": worker.pid})
            job.fail(WorkerDied("the worker could not run the job"))
        finally:  # also when close() cancels this slot
            unfinished = not worker.reply.done() and not worker.exited.done()
            if unfinished:
                _log_kill(worker, job, where)
                await worker.kill()
            del self.running_jobs[job]
            job.stop()
            self._metrics.job_run.observe(job.run_seconds)
            if worker.reply.done():
                self._learn(job.run_seconds)
            else:
                self._has_cut_jobs_off = True
        if unfinished:
            detail = "the deadline passed before the job was done"
            job.fail(DeadlinePassed(detail, f"{detail}, at {where[0]}" if where else None))
        elif worker.reply.done():
            job.end(worker.end_job())
        elif not worker.has_begun_job:  # it died before it had read the request
            self._pass_on(job)
        else:
            log_message = f"worker {worker.pid} {worker.exited.result()}"
            job.fail(WorkerDied("the worker that ran the job died", log_message))

    def _count(self, job: Job[Any], outcome: asyncio.Future[Reply]) -> None:
        error = None if outcome.cancelled() else outcome.exception()
        if outcome.cancelled() or isinstance(error, CutOff | Draining):
            self._metrics.job("cancelled")
        elif error:
            what = "timeout" if isinstance(error, DeadlinePassed) else "died"
            self._metrics.job(what)
            self.failures.add(job, what, getattr(error, "log_text", str(error)))
        else:  # whoever awaits the result of one that failed reads the error
            self._metrics.job("ok" if outcome.result().kind == RESULT else "failed")

    def _learn(self, run_seconds: float) -> None:
        if self._service_seconds is None:
            self._service_seconds = run_seconds
        self._service_seconds += ESTIMATE_WEIGHT * (run_seconds - self._service_seconds)


def worker_count(config: Config) -> int:
    """The workers of one slow instance: SLOW_WORKERS, or the CPUs that there are for it."""
    cpus = count_cpus(config.worker_cpus)
    return config.slow_workers or max(1, int(cpus // config.slow_processes))


def _log_kill(worker: WorkerHandle, job: Job[Any], where: list[str] | None) -> None:
    """Log that the worker is killed, and where its task was; ``where`` is None when the job was given up."""
    extra = {"request_id": job.request_id, "route": job.route, "task": job.task, "worker": worker.pid}
    if where is None:
        log.info("killing worker %d, whose job was given up", worker.pid, extra=extra)
        return
    extra["stack"] = "\n".join(where)
    place = where[0] if where else "no line of its own: it waited for its reader, or did not tell in time"
    log.warning("killing worker %d, whose job is late: it was at %s", worker.pid, place, extra=extra)
