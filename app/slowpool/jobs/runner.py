"""Runner: has the application handle the requests of accepted jobs, and keeps what it answers."""

import asyncio
import contextlib
import contextvars
import logging
import time
from dataclasses import dataclass

from tornado.httputil import HTTPHeaders, HTTPServerConnectionDelegate, RequestStartLine

from slowpool.http.peer import peer
from slowpool.instance import Runtime, State
from slowpool.jobs.record import Beat, Lease
from slowpool.jobs.recorder import Recorder
from slowpool.jobs.store import Store, StoreError
from slowpool.web.exchange import Exchange, current

log = logging.getLogger("slowpool")

BEAT_SECONDS = 0.25
"""How often leases are extended and progress is kept; after so long a job is cancelled from elsewhere."""

LOOK_SECONDS = 0.25
"""How often an idle instance looks for jobs that others have accepted."""

RETRY_SECONDS = 1.0
"""Time until the next try when the store cannot be used."""

JOBS_OF_CLIENTS = 10
"""After so many jobs of clients that wait, an accepted one is taken although more of them wait."""

CUT_OFF = "its instance was shut down while it ran; it may have run"


@dataclass(eq=False)
class Run:
    """An accepted job that this instance runs."""

    lease: Lease
    exchange: Exchange
    recorder: Recorder
    is_lost: bool = False  # to another instance, or cancelled

    def beat(self) -> Beat:
        """How far it is."""
        for job in self.exchange.jobs:
            if told := job.progress:
                return Beat(self.lease.id, self.lease.fence, told.fraction, told.message)
        return Beat(self.lease.id, self.lease.fence)

    def end(self) -> None:
        """End its handler and its jobs."""
        self.is_lost = True
        self.recorder.close()
        self.exchange.on_close()


class Runner:
    """Runs the accepted jobs that this instance has taken."""

    def __init__(self, runtime: Runtime, store: Store, host: HTTPServerConnectionDelegate) -> None:
        self._runtime = runtime
        self._store = store
        self._host = host
        self._runs: set[Run] = set()
        self._news = asyncio.Event()  # there may be something to take
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._runs)

    def start(self) -> None:
        """Take jobs from now on, and keep their leases."""
        for loop in (self._take_on(), self._beat_on(), self._sweep_on()):
            self._begin(loop)

    async def close(self) -> None:
        """Give back what has not ended."""
        for run in list(self._runs):
            run.end()
            with contextlib.suppress(StoreError):
                if not await self._store.release(run.lease.id, run.lease.fence):
                    await self._store.finish(run.lease.id, run.lease.fence, None, CUT_OFF)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """There is a job to take."""
        self._news.set()

    def keep(self, lease: Lease, exchange: Exchange, recorder: Recorder) -> None:
        """Keep the answer of a request that is handled here."""
        run = Run(lease, exchange, recorder)
        self._runs.add(run)
        self._begin(self._finish(run))

    def _begin(self, work: "asyncio.Coroutine[Any, Any, None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Taking.

    async def _take_on(self) -> None:
        while True:
            try:
                lease = await self._store.take(self._runtime.name) if self._may_take() else None
            except StoreError as error:
                log.error("accepted jobs cannot be taken, next try in %g s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if lease:
                self._replay(lease)
                continue
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)

    def _may_take(self) -> bool:
        """Whether a job that is taken can begin at once, or it is its turn although clients wait."""
        if self._runtime.state is not State.READY or any(not run.exchange.jobs for run in self._runs):
            return False
        workers = self._runtime.workers
        return workers.has_idle_worker or workers.jobs_since_accepted >= JOBS_OF_CLIENTS

    def _replay(self, lease: Lease) -> None:
        """Have the application handle the request again, or for the first time."""
        request = lease.request
        headers = HTTPHeaders()
        for name, value in request.headers:
            headers.add(name, value)
        recorder = Recorder(peer(("127.0.0.1", 0), headers), self._runtime.config.job_result_bytes, lease.id)
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
            if not self._runs:
                continue
            with contextlib.suppress(StoreError):  # the lease runs out, if that lasts
                lost = await self._store.beat([run.beat() for run in self._runs])
                for run in [run for run in self._runs if run.lease.id in lost]:
                    run.end()

    async def _finish(self, run: Run) -> None:
        try:
            answer = await run.recorder.answer
            error = f"answered {answer.status}" if answer.status >= 500 else ""
        except AnswerTooLarge as too_large:
            answer, error = None, str(too_large)
        except StreamClosedError:
            answer, error = None, "the handler failed in the middle of its answer"
        while not run.is_lost:
            try:
                await self._store.finish(run.lease.id, run.lease.fence, answer, error)
                break
            except StoreError as failure:
                log.error("the answer of job %s is not kept, next try in %g s: %s", run.lease.id, RETRY_SECONDS, failure)
                await asyncio.sleep(RETRY_SECONDS)
        self._runs.discard(run)
        self._news.set()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with contextlib.suppress(StoreError):
                await self._store.sweep()
