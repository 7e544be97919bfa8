"""Run: an accepted job that this instance runs."""

import asyncio

from slowpool.jobs.record import Beat, Lease
from slowpool.jobs.recorder import Recorder
from slowpool.web.exchange import Exchange


class Run:
    """A lease, and the handler that works on it; ``ended`` is set when its end is kept, or it is given up."""

    def __init__(self, lease: Lease, exchange: Exchange, recorder: Recorder) -> None:
        self.id = lease.id
        self.fence = lease.fence
        self.route = lease.route
        self.repeatable = lease.repeatable
        self.exchange = exchange
        self.recorder = recorder
        self.ended = asyncio.Event()
        self._told = Beat(lease.id, lease.fence)

    @property
    def is_waiting(self) -> bool:
        """Whether it is about to need a worker."""
        return not self.exchange.has_run or any(not job.started_at for job in self.exchange.jobs)

    @property
    def has_begun(self) -> bool:
        """Whether a job of it has begun in a worker."""
        jobs = self.exchange.jobs
        return self.exchange.job_seconds["run_seconds"] > 0 or any(job.started_at for job in jobs)

    def beat(self) -> Beat:
        """How far it is, as its jobs have told last."""
        for job in self.exchange.jobs:
            if told := job.progress:
                self._told = Beat(self.id, self.fence, told.fraction, told.message)
        return self._told

    def give_up(self) -> None:
        """End its handler and its jobs; the answer is not kept."""
        self.ended.set()
        self.recorder.close()
        self.exchange.on_close()
