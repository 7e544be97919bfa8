"""Runner: takes accepted jobs that wait, has the application handle them, and keeps what it answers."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Coroutine, Iterator
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerConnectionDelegate, RequestStartLine
from tornado.iostream import StreamClosedError

from slowpool.http.peer import peer
from slowpool.instance import Runtime, State
from slowpool.jobs.leases import BEAT_SECONDS, Leases, Steadiness
from slowpool.jobs.record import MOST_FAILED, Answer, Beat, Lease
from slowpool.jobs.record import State as JobState
from slowpool.jobs.recorder import Recorder, Unkept
from slowpool.jobs.run import Run
from slowpool.jobs.store import Store, StoreError
from slowpool.web.exchange import Exchange, current

log = logging.getLogger("slowpool")

LOOK_SECONDS = 0.25
"""How often an idle instance looks for jobs that others have accepted."""

SWEEP_SECONDS = 1.0
"""How often it looks for jobs of dead instances, and for those that have expired."""

RETRY_SECONDS = 1.0
"""Time until the next try when the store cannot be used."""

GIVE_BACK_SECONDS = 3.0
"""Time to give all jobs back at the end. After that their leases run out."""

JOBS_OF_CLIENTS = 10
"""After so many jobs of clients that wait, an accepted one is taken although more of them wait."""

LATE_SECONDS = 5.0
"""So long after the deadline of its jobs a handler is ended."""

MOST_ANSWER_BYTES = 400_000_000
"""A value has at most 512 MB in Valkey (proto-max-bulk-len), and 1 GB in SQLite (SQLITE_MAX_LENGTH)."""

CUT_OFF = "its instance was shut down while it ran; it may have run"


class Runner:
    """Runs the accepted jobs that this instance has a lease for, by id in ``runs``."""

    def __init__(
        self, runtime: Runtime, store: Store, store_of_leases: Store, host: HTTPServerConnectionDelegate
    ) -> None:
        self.runs: dict[str, Run] = {}
        self._runtime = runtime
        self._store = store
        self._host = host
        self._leases = Leases(store_of_leases, self._lose)
        self._steadiness = Steadiness()
        self._reserved = 0
        self._news = asyncio.Event()  # there may be something to take
        self._closed = False
        self._taking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take jobs from now on, and keep their leases."""
        self._leases.start()
        self._runtime.workers.on_start = self._look_for_turn
        self._taking = self._begin(self._take_on())
        for loop in (self._beat_on(), self._sweep_on()):
            self._begin(loop)

    async def close(self) -> None:
        """Take nothing any more, and give back what has not ended."""
        self._closed = True
        self._news.set()
        if self._taking:
            await asyncio.wait([self._taking])
        runs = list(self.runs.values())
        begun = {run for run in runs if run.has_begun}
        for run in runs:
            run.give_up()
        if runs:
            backs = [asyncio.ensure_future(self._give_back(run, begun=run in begun)) for run in runs]
            await asyncio.wait(backs, timeout=GIVE_BACK_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leases.close()
        await self._store.close()

    def look(self) -> None:
        """There may be a job to take."""
        self._news.set()

    @property
    def may_begin(self) -> bool:
        """Whether a job that is taken now can begin at once."""
        return self._runtime.state is State.READY and self._runtime.workers.idle_workers > self._waiting

    @contextlib.contextmanager
    def reserving(self) -> Iterator[None]:
        """Keep a worker free for a job that is about to be taken."""
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def keep(self, lease: Lease, exchange: Exchange, recorder: Recorder) -> Run:
        """Keep the answer to a request that is handled here."""
        if old := self.runs.get(lease.id):  # its lease had run out
            old.give_up()
        run = self.runs[lease.id] = Run(lease, exchange, recorder)
        self._note_beats()
        self._begin(self._finish(run))
        return run

    def recorder(self, job_id: str, context: object) -> Recorder:
        """What keeps the answer of a job."""
        most_bytes = min(self._runtime.config.slow_max_result_bytes, MOST_ANSWER_BYTES)
        return Recorder(context, most_bytes, job_id)

    def accepted_id(self, job_id: str) -> str:
        """The id of the accepted job for which this job runs in a worker here; empty if there is none."""
        runs = self.runs.values()
        return next((run.id for run in runs if any(job.id == job_id for job in run.exchange.jobs)), "")

    def cancel(self, job_id: str) -> None:
        """End a job here that has been cancelled in the store."""
        if run := self.runs.get(job_id):
            run.give_up()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _give_back(self, run: Run, *, begun: bool) -> None:
        """Have a job that cannot end here run elsewhere, unless it has begun and may not run twice."""
        with contextlib.suppress(StoreError):
            if run.repeatable or not begun:
                await self._store.release(run.id, run.fence)
            else:
                await self._store.finish(run.id, run.fence, None, CUT_OFF)

    @property
    def _waiting(self) -> int:
        return self._reserved + sum(run.is_waiting for run in self.runs.values())

    # Taking.

    async def _take_on(self) -> None:
        is_lost = False
        while not self._closed:
            self._news.clear()
            taken = False
            try:
                if self._steadiness.is_steady() and self._may_take():
                    taken = await self._take()
                    is_lost = False
            except StoreError as error:
                self._steadiness.fail()
                if not is_lost:
                    log.error("accepted jobs cannot be taken, tried again each second: %s", error)
                is_lost = True
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # a fault of ours must not cost the instance all further jobs
                log.exception("accepted jobs cannot be taken")
                await asyncio.sleep(RETRY_SECONDS)
            if not taken:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    async def _take(self) -> bool:
        with self.reserving():
            lease = await self._store.take(self._runtime.name)
            if lease is None:
                self._runtime.workers.jobs_since_accepted = 0  # it was their turn, and there was none
            elif self._closed or self._runtime.state is not State.READY:
                await self._store.release(lease.id, lease.fence)
            else:
                self._replay(lease)
        return lease is not None

    def _may_take(self) -> bool:
        """Whether a job can begin at once, or it is its turn although clients wait."""
        if self.may_begin:
            return True
        workers = self._runtime.workers
        is_their_turn = workers.waiting_jobs and workers.jobs_since_accepted >= JOBS_OF_CLIENTS
        return bool(is_their_turn and self._runtime.state is State.READY and not self._waiting)

    def _look_for_turn(self) -> None:
        """After enough jobs of clients, look at once: the next ones may take all workers until then."""
        if self._runtime.workers.jobs_since_accepted >= JOBS_OF_CLIENTS:
            self._news.set()

    def _replay(self, lease: Lease) -> None:
        """Have the application handle the request, from its start."""
        request = lease.request
        headers = HTTPHeaders()
        for name, value in request.headers:
            headers.add(name, value)
        recorder = self.recorder(lease.id, peer(("127.0.0.1", 0), headers))
        receiver = self._host.start_request(self, recorder)
        context = contextvars.copy_context()

        def receive() -> None:
            receiver.headers_received(RequestStartLine(request.method, request.target, "HTTP/1.1"), headers)
            if request.body:
                receiver.data_received(request.body)
            receiver.finish()

        try:
            context.run(receive)
        except Exception:  # of the application
            log.exception("the handler of job %s cannot be started", lease.id)
            recorder.close()
        exchange = context[current]
        assert exchange
        self.keep(lease, exchange, recorder)

    # Keeping.

    async def _beat_on(self) -> None:
        while True:
            self._note_beats()
            await asyncio.sleep(BEAT_SECONDS)

    def _note_beats(self) -> None:
        self._leases.beats = [run.beat() for run in self.runs.values()]

    def _lose(self, beat: Beat) -> None:
        """Another instance has the job, or it was cancelled."""
        run = self.runs.get(beat.id)
        if run and run.fence == beat.fence:
            run.give_up()

    async def _finish(self, run: Run) -> None:
        try:
            await self._keep_answer(run)
        except Exception:
            log.exception("the answer of job %s is lost", run.id)
        finally:
            run.ended.set()
            if self.runs.get(run.id) is run:
                del self.runs[run.id]
            self._news.set()

    async def _keep_answer(self, run: Run) -> None:
        answer, error = await self._outcome(run)
        if answer is None:
            run.exchange.on_close()  # if it still works
        while not run.ended.is_set():
            try:
                is_kept = await self._store.finish(run.id, run.fence, answer, error)
            except StoreError as failure:
                log.error("job %s is not kept, next try in %g s: %s", run.id, RETRY_SECONDS, failure)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if is_kept:
                _log_end(run, answer, error)
            return

    async def _outcome(self, run: Run) -> tuple[Answer | None, str]:
        """What is to be kept: the answer, if there is one, and why the job has failed, if it has."""
        seconds = self._runtime.config.job_timeout_seconds
        await asyncio.wait([run.recorder.answer], timeout=seconds + LATE_SECONDS)
        if not run.recorder.answer.done():
            return None, f"its handler took longer than JOB_TIMEOUT_SECONDS={seconds:g}"
        try:
            answer = run.recorder.answer.result()
        except Unkept as error:
            return None, str(error)
        except StreamClosedError:
            return None, "its handler has failed before its answer was complete"
        return answer, f"answered {answer.status}" if answer.status >= 500 else ""

    async def _sweep_on(self) -> None:
        while True:
            try:
                if self._steadiness.is_steady():
                    await self._store.sweep()
                    await self._count()
            except StoreError:
                self._steadiness.fail()
            except Exception:
                log.exception("accepted jobs cannot be looked through")
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


def _log_end(run: Run, answer: Answer | None, error: str) -> None:
    extra = {"request_id": run.exchange.request_id, "route": run.route, "job": run.id}
    if error:
        log.warning("job %s has failed: %s", run.id, error, extra=extra)
    elif answer:
        log.info("job %s is done: %d", run.id, answer.status, extra=extra)
