"""Which jobs failed last, and why."""

import asyncio
import contextlib
import time

import pytest

from slowpool.errors import DeadlinePassed, ResultTooLarge, WorkerDied
from slowpool.observe.untrusted import MAX_TEXT
from slowpool.workers.failures import MOST_FAILURES, Failures
from slowpool.workers.job import Job
from tests.apps import zoo
from tests.support.pool import Pool, idle_workers, until, with_pool


def test_a_job_that_fails_is_kept_with_the_last_line_of_its_error() -> None:
    async def scenario(pool: Pool) -> None:
        begun = time.time()
        with pytest.raises(RecursionError):
            await pool.submit(zoo.recurses, route="/slow/{}", request_id="mine").result()
        with pytest.raises(WorkerDied):
            await pool.run(zoo.exits)
        await until(lambda: idle_workers(pool))  # so that the next one runs when its deadline passes
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.spins_for_ever, timeout=1)
        with pytest.raises(ResultTooLarge):
            await pool.run(bytes, 2000)
        raised, died, late, large = pool.failures.since(begun)
        assert raised["error"].startswith("RecursionError: maximum recursion depth exceeded")
        assert died["error"].endswith(" exited with status 3")
        assert late["error"].startswith("the deadline passed before the job was done, at ")
        assert late["error"].endswith(" in spins_for_ever")
        assert "SLOW_MAX_RESULT_BYTES" in large["error"]
        outcomes = [failure["outcome"] for failure in (raised, died, late, large)]
        assert outcomes == ["failed", "died", "timeout", "failed"]
        names = ("task", "route", "request_id")
        assert [raised[name] for name in names] == ["tests.apps.zoo.recurses", "/slow/{}", "mine"]
        assert begun <= raised["ended"] <= died["ended"] <= time.time()
        assert pool.failures.since(late["ended"]) == [late, large]

    with_pool(scenario, slow_max_result_bytes=1024)


def test_a_job_that_is_done_given_up_or_refused_is_no_failure() -> None:
    async def scenario(pool: Pool) -> None:
        await pool.run(zoo.add, 1, 1)
        given_up = asyncio.create_task(pool.run(zoo.sleeps_for_ever))
        await until(lambda: pool.running_jobs)
        given_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await given_up
        assert pool.failures.since(0) == []

    with_pool(scenario)


def test_a_job_that_waits_too_long_has_failed() -> None:
    async def scenario(pool: Pool) -> None:
        blocker = asyncio.create_task(pool.run(zoo.sleeps_for_ever))
        await until(lambda: pool.running_jobs)
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.add, 1, 1, timeout=0.05)
        blocker.cancel()
        (late,) = pool.failures.since(0)
        assert late["outcome"] == "timeout"
        assert late["error"] == "the deadline passed before the job could start"

    with_pool(scenario)


def test_no_more_are_kept_than_somebody_reads_and_no_longer_texts() -> None:
    async def scenario() -> None:
        failures = Failures()
        for number in range(2 * MOST_FAILURES):
            job: Job[None] = Job(b"", 1, "r" * 500, "/" * 500, f"task{number}" + "t" * 500)
            failures.add(job, "failed", f"first line\n  {'x' * 500} {number}\n\n")
        kept = failures.since(0)
        assert len(kept) == MOST_FAILURES
        assert kept[0]["task"].startswith(f"task{MOST_FAILURES}")
        assert {len(str(kept[0][name])) for name in ("task", "route", "request_id", "error")} == {MAX_TEXT}
        assert set(kept[0]["error"]) == {"x"}

    asyncio.run(scenario())
