"""The formula of Retry-After, and what it is told."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowpool.config import Config
from slowpool.errors import DeadlinePassed
from slowpool.workers.job import Job
from tests.apps.zoo import add, raises, sleeps_for_ever
from tests.support.pool import Pool, until, with_pool

SECONDS = st.lists(st.floats(0, 100_000), max_size=5)


@given(st.integers(1, 256), st.integers(1, 10_000), SECONDS, SECONDS, st.integers(0, 20))
def test_retry_after_is_by_the_formula_of_the_readme(
    workers: int, timeout: int, past: list[float], ages: list[float], most_waiting: int
) -> None:
    def formula(service_seconds: float, waiting: int) -> int:
        seconds = service_seconds * (waiting + 1) / workers
        return min(max(1, math.ceil(seconds)), timeout)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pool = Pool(
            Config(
                slow_workers=workers,
                slow_queue=100,
                slow_timeout_seconds=timeout,
                drain_timeout_seconds=timeout + 3,
                stop_grace_seconds=90_000,
            )
        )
        average = past[0] if past else 0
        for seconds in past:
            pool._learn(seconds)
            average += (seconds - average) / 5
        start = loop.time()
        for age in ages:
            job: Job[None] = Job(b"", timeout, "", "")
            job.started_at = start - age
            job.worker_pid = 1
            pool.running_jobs[job] = None  # type: ignore[assignment]  # no worker
        answers = []
        for waiting in range(most_waiting + 1):
            answers.append(pool.retry_after_seconds())
            oldest = max(ages, default=0)
            least = max(average, oldest)
            most = max(average, oldest + loop.time() - start if ages else 0)
            # All but the last bits of a float.
            assert formula(least * (1 - 1e-9), waiting) <= answers[-1] <= formula(most * (1 + 1e-9), waiting)
            pool.submit(add, 1, 2)
        assert answers == sorted(answers)
        await pool.close()

    asyncio.run(main())


def test_clients_that_left_do_not_teach_it_and_jobs_that_ended_do() -> None:
    async def scenario(pool: Pool) -> None:
        for _ in range(40):
            job = pool.submit(sleeps_for_ever)
            await until(lambda: pool.running_jobs)
            job.cancel()
            await until(lambda: not pool.running_jobs)
            assert 0 < job.run_seconds < 60
        assert pool.retry_after_seconds() == 60, "the longest time allowed, since no job has ended by itself"
        with pytest.raises(ValueError, match="on purpose"):
            await pool.run(raises)
        assert pool.retry_after_seconds() == 1

    with_pool(scenario)


def test_the_run_time_of_a_job_that_was_cut_off_is_true() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(sleeps_for_ever, timeout=1.5)
        waiting = pool.submit(add, 1, 1, timeout=0.1)
        await until(lambda: pool.running_jobs)
        assert waiting.run_seconds == 0
        with pytest.raises(DeadlinePassed):
            await waiting.result()
        assert (waiting.run_seconds, waiting.wait_seconds > 0.1) == (0, True)
        with pytest.raises(DeadlinePassed):
            await job.result()
        assert job.wait_seconds + job.run_seconds >= 1.5
        ended = job.run_seconds
        assert await pool.run(add, 1, 1) == 2
        assert job.run_seconds == ended

    with_pool(scenario)
