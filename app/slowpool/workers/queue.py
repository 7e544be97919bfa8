"""The jobs that wait for a worker."""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from slowpool.workers.job import Job


class JobQueue:
    """Jobs in the order of their arrival. A job that is given up, or whose deadline passes, leaves it."""

    def __init__(self) -> None:
        self._expiries: OrderedDict[Job[Any], asyncio.TimerHandle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiries)

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self._expiries)

    def append(self, job: Job[Any]) -> None:
        """Add the job as the last one."""
        loop = asyncio.get_running_loop()
        self._expiries[job] = loop.call_at(job.deadline, job.fail_unstarted)
        job.outcome.add_done_callback(functools.partial(self._discard, job))

    def put_back(self, job: Job[Any]) -> None:
        """Make a job that was taken from the queue the first one again."""
        self.append(job)
        self._expiries.move_to_end(job, last=False)

    def pop(self) -> Job[Any]:
        """Remove and return the job that has waited longest."""
        job, expiry = self._expiries.popitem(last=False)
        expiry.cancel()
        return job

    def _discard(self, job: Job[Any], _: object) -> None:
        expiry = self._expiries.pop(job, None)  # none when a worker has taken it
        if expiry:
            expiry.cancel()
