"""Runner: takes accepted jobs that wait, has the application handle them, and keeps what it answers."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerConnectionDelegate, RequestStartLine
from tornado.iostream import StreamClosedError

from slowpool.http.peer import peer
from slowpool.instance import Runtime, State
from slowpool.jobs.record import Answer, Beat, Lease
from slowpool.jobs.record import State as JobState
from slowpool.jobs.recorder import AnswerTooLarge, Recorder
from slowpool.jobs.store import Store, StoreError
from slowpool.web.exchange import Exchange, current

log = logging.getLogger("slowpool")

BEAT_SECONDS = 0.25
"""How often leases are extended and progress is kept; after so long a job that is cancelled elsewhere ends."""

LOOK_SECONDS = 0.25
"""How often an idle instance looks for jobs that others have accepted."""

SWEEP_SECONDS = 1.0
"""How often it looks for jobs of dead instances, and for those that have expired."""

RETRY_SECONDS = 1.0
"""Time until the next try when the store cannot be used."""

JOBS_OF_CLIENTS = 10
"""After so many jobs of clients that wait, an accepted one is taken although more of them wait."""

MOST_FAILED = 100
"""Jobs that have failed, on the status page."""

CUT_OFF = "its instance was shut down while it ran; it may have run"


class Run:
    """An accepted job that this instance runs. ``ended`` is set when its end is in the store, or it is lost."""

    def __init__(self, lease: Lease, exchange: Exchange, recorder: Recorder) -> None:
        self.lease = lease
        self.exchange = exchange
        self.recorder = recorder
        self.ended = asyncio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether it is about to need a worker."""
        return not self.exchange.has_run or any(not job.started_at for job in self.exchange.jobs)

    def beat(self) -> Beat:
        """How far it is."""
        for job in self.exchange.jobs:
            if told := job.progress:
                return Beat(self.lease.id, self.lease.fence, told.fraction, told.message)
        return Beat(self.lease.id, self.lease.fence)

    def give_up(self) -> None:
        """End its handler and its jobs; the answer is not kept."""
        self.ended.set()
        self.recorder.close()
        self.exchange.on_close()


class Runner:
    """Runs the accepted jobs that this instance has a lease for, by id in ``runs``."""

    def __init__(self, runtime: Runtime, store: Store, host: HTTPServerConnectionDelegate) -> None:
        self.runs: dict[str, Run] = {}
        self._runtime = runtime
        self._store = store
        self._host = host
        self._news = asyncio.Event()  # there may be something to take
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take jobs from now on, and keep their leases."""
        for loop in (self._take_on(), self._beat_on(), self._sweep_on()):
            self._begin(loop)

    async def close(self) -> None:
        """Take nothing any more, and give back what has not ended."""
        for run in list(self.runs.values()):
            run.give_up()
            with contextlib.suppress(StoreError):
                await self._give_back(run.lease)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    def look(self) -> None:
        """There may be a job to take."""
        self._news.set()

    @property
    def may_begin(self) -> bool:
        """Whether a job that is taken now can begin at once."""
        return self._runtime.state is State.READY and self._runtime.workers.idle_workers > self._waiting

    def keep(self, lease: Lease, exchange: Exchange, recorder: Recorder) -> Run:
        """Keep the answer to a request that is handled here."""
        run = self.runs[lease.id] = Run(lease, exchange, recorder)
        self._begin(self._finish(run))
        return run

    def recorder(self, job_id: str, context: object) -> Recorder:
        """What keeps the answer of a job."""
        return Recorder(context, self._runtime.config.slow_max_result_bytes, job_id)

    def cancel(self, job_id: str) -> None:
        """End a job here that has been cancelled in the store."""
        if run := self.runs.get(job_id):
            run.give_up()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_back(self, lease: Lease) -> None:
        """Have a job that cannot end here run elsewhere if it may run twice; otherwise it has failed."""
        if lease.repeatable:
            await self._store.release(lease.id, lease.fence)
        else:
            await self._store.finish(lease.id, lease.fence, None, CUT_OFF)

    # Taking.

    async def _take_on(self) -> None:
        while True:
            self._news.clear()
            try:
                lease = await self._store.take(self._runtime.name) if self._may_take() else None
            except StoreError as error:
                log.error("accepted jobs cannot be taken, next try in %g s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if lease:
                self._replay(lease)
                await asyncio.sleep(0)  # to its first job
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    def _may_take(self) -> bool:
        """Whether a job can begin at once, or it is its turn although clients wait."""
        if self.may_begin:
            return True
        is_ready = self._runtime.state is State.READY and not self._waiting
        return is_ready and self._runtime.workers.jobs_since_accepted >= JOBS_OF_CLIENTS

    @property
    def _waiting(self) -> int:
        return sum(run.is_waiting for run in self.runs.values())

    def _replay(self, lease: Lease) -> None:
        """Have the application handle the request, from its start."""
        request = lease.request
        headers = HTTPHeaders()
        for name, value in request.headers:
            headers.add(name, value)
        recorder = self.recorder(lease.id, peer(("127.0.0.1", 0), headers))
        receiver = self._host.start_request(self, recorder)
        context = contextvars.copy_context()
        start_line = RequestStartLine(request.method, request.target, "HTTP/1.1")
        context.run(receiver.headers_received, start_line, headers)
        exchange = context[current]
        assert exchange
        self.keep(lease, exchange, recorder)
        if request.body:
            context.run(receiver.data_received, request.body)
        context.run(receiver.finish)

    # Keeping.

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not self.runs:
                continue
            with contextlib.suppress(StoreError):  # if that lasts, the leases run out
                for job_id in await self._store.beat([run.beat() for run in self.runs.values()]):
                    self.cancel(job_id)

    async def _finish(self, run: Run) -> None:
        try:
            await self._keep_answer(run)
        finally:
            run.ended.set()
            self.runs.pop(run.lease.id, None)
            self._news.set()

    async def _keep_answer(self, run: Run) -> None:
        lease, answer = run.lease, None
        try:
            answer = await run.recorder.answer
            error = f"answered {answer.status}" if answer.status >= 500 else ""
        except AnswerTooLarge:
            size = self._runtime.config.slow_max_result_bytes
            error = f"its answer has more than SLOW_MAX_RESULT_BYTES={size}"
        except StreamClosedError:
            error = "its handler failed in the middle of the answer"
        while not run.ended.is_set():
            try:
                is_kept = await self._store.finish(lease.id, lease.fence, answer, error)
            except StoreError as failure:
                log.error("job %s is not kept, next try in %g s: %s", lease.id, RETRY_SECONDS, failure)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if is_kept:
                self._log_end(run, answer, error)
            return

    def _log_end(self, run: Run, answer: Answer | None, error: str) -> None:
        extra = {"request_id": run.exchange.request_id, "route": run.lease.route, "job": run.lease.id}
        if error:
            log.warning("job %s has failed: %s", run.lease.id, error, extra=extra)
        elif answer:
            log.info("job %s is done: %d", run.lease.id, answer.status, extra=extra)

    async def _sweep_on(self) -> None:
        while True:
            with contextlib.suppress(StoreError):
                await self._store.sweep()
                await self._count()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _count(self) -> None:
        """Note what is in the store, for the metrics and the status page."""
        totals = await self._store.totals()
        by_state = {state.value: totals.by_state.get(state, 0) for state in JobState}
        self._runtime.metrics.accepted_jobs(by_state, totals.oldest_waiting)
        failed = await self._store.failures(MOST_FAILED) if by_state[JobState.FAILED] else []
        self._runtime.accepted_jobs = by_state if any(by_state.values()) else {}
        self._runtime.failed_jobs = [
            {"job": job.id, "route": job.route, "ended": job.ended, "error": job.error} for job in failed
        ]
