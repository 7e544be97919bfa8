"""The formula of Retry-After."""

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from slowpool.config import Config
from slowpool.workers.job import Job
from tests.apps.zoo import add
from tests.support.pool import Pool

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
