"""The order of the jobs that wait, and how they leave."""

import asyncio

import pytest

from slowpool.errors import DeadlinePassed
from slowpool.workers.job import Job
from slowpool.workers.queue import JobQueue


def test_jobs_leave_in_their_order_when_given_up_and_when_late() -> None:
    async def main() -> None:
        queue = JobQueue()
        late: Job[None] = Job(b"", 0, "late", "")
        first, given_up, last = (Job[None](b"", 1000, name, "") for name in ("first", "given up", "last"))
        for job in (late, first, given_up, last):
            queue.append(job)
        given_up.cancel()
        with pytest.raises(DeadlinePassed):
            await late.result()
        assert list(queue) == [first, last]
        assert queue.pop() is first
        queue.put_back(first)
        assert list(queue) == [first, last]
        assert [queue.pop(), queue.pop()] == [first, last]
        assert not queue

    asyncio.run(main())


def test_a_job_that_was_taken_no_longer_expires_in_the_queue() -> None:
    async def main() -> None:
        queue = JobQueue()
        job: Job[None] = Job(b"", 0.01, "", "")
        queue.append(job)
        queue.pop()
        await asyncio.sleep(0.05)
        assert not job.outcome.done()
        job.cancel()

    asyncio.run(main())
