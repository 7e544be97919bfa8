"""The pool: who runs, who waits, who is refused, and what is left at its end."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slowpool.errors import CutOff, DeadlinePassed, Draining, PoolFull
from tests.apps import zoo
from tests.support.basics import ROOT
from tests.support.pool import Pool, is_alive, is_dead, until, with_pool


def test_a_job_whose_deadline_passes_while_it_waits_never_starts(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        blocker = asyncio.create_task(pool.run(zoo.sleeps_for_ever))
        await until(lambda: pool.running_jobs)
        with pytest.raises(DeadlinePassed):
            await pool.run(os.mkdir, str(tmp_path / "started"), timeout=0.1)
        blocker.cancel()
        assert await pool.run(zoo.add, 1, 1) == 2
        assert not (tmp_path / "started").exists()

    with_pool(scenario)


def test_the_worker_is_gone_when_a_passed_deadline_is_answered() -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.spins_for_ever, timeout=0.2)
        assert not is_alive(pid)

    with_pool(scenario)


def test_a_cancelled_waiting_job_leaves_the_queue_and_the_others_keep_their_order() -> None:
    async def scenario(pool: Pool) -> None:
        order: list[int] = []

        async def job(number: int) -> None:
            await pool.run(zoo.add, number, 0)
            order.append(number)

        blocker = asyncio.create_task(pool.run(zoo.sleeps_for_ever))
        await until(lambda: pool.running_jobs)
        jobs = [asyncio.create_task(job(number)) for number in range(4)]
        await until(lambda: len(pool.waiting_jobs) == 4)
        jobs[1].cancel()
        await until(lambda: len(pool.waiting_jobs) == 3)
        blocker.cancel()
        await asyncio.gather(blocker, *jobs, return_exceptions=True)
        assert order == [0, 2, 3]

    with_pool(scenario)


def test_a_slot_is_not_free_before_its_worker_is_gone() -> None:
    async def scenario(pool: Pool) -> None:
        job = asyncio.create_task(pool.run(zoo.spins_for_ever))
        await until(lambda: pool.running_jobs)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        with pytest.raises(PoolFull):  # no place in the queue, and the worker is only being replaced
            pool.submit(zoo.add, 1, 1)
        await until(lambda: not pool.running_jobs)

    with_pool(scenario, slow_queue=0)


def test_a_full_pool_refuses_with_the_time_that_the_queue_ahead_takes() -> None:
    async def scenario(pool: Pool) -> None:
        pool._learn(100)
        jobs = [asyncio.create_task(pool.run(zoo.sleeps_for_ever)) for _ in range(5)]
        await until(lambda: len(pool.running_jobs) == 2 and len(pool.waiting_jobs) == 3)
        with pytest.raises(PoolFull) as refused:
            pool.submit(zoo.add, 1, 1)
        # Four jobs, the three that wait and this one, on two workers.
        assert refused.value.headers() == {"Retry-After": "200"}
        for _ in range(5):  # the newest jobs weigh most
            pool._learn(50)
        assert pool.retry_after_seconds() == 133  # 2 * (50 + 50 * 0.8**5)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)

    times = {"slow_timeout_seconds": 1000, "drain_timeout_seconds": 1003, "stop_grace_seconds": 2000}
    with_pool(scenario, slow_workers=2, slow_queue=3, **times)


def test_a_pool_learns_its_service_time_from_the_jobs_that_it_runs() -> None:
    async def scenario(pool: Pool) -> None:
        assert pool.retry_after_seconds() == 1
        await pool.run(zoo.sleep, 1.1)
        assert pool.retry_after_seconds() >= 2

    with_pool(scenario)


def test_a_worker_that_is_killed_while_idle_is_replaced_and_no_job_fails() -> None:
    async def scenario(pool: Pool) -> None:
        for _ in range(20):
            pid = await pool.run(zoo.own_pid)
            os.kill(pid, signal.SIGKILL)
            await until(functools.partial(is_dead, pid))
            assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


def test_a_worker_is_replaced_after_its_number_of_jobs() -> None:
    async def scenario(pool: Pool) -> None:
        pids = [await pool.run(zoo.own_pid) for _ in range(6)]
        assert pids[0] == pids[1]
        assert len(set(pids)) == 3

    with_pool(scenario, slow_max_jobs=2)


def test_a_worker_that_has_grown_is_replaced_after_its_job() -> None:
    async def scenario(pool: Pool) -> None:
        small = [await pool.run(zoo.own_pid) for _ in range(3)]
        assert len(set(small)) == 1
        await pool.run(zoo.echoes, b"x" * (200 << 20))
        assert await pool.run(zoo.own_pid) != small[0]

    with_pool(scenario, slow_max_rss_bytes=100 << 20, slow_max_result_bytes=300 << 20)


def test_a_closed_pool_refuses_and_fails_the_job_that_it_had_just_handed_out() -> None:
    async def scenario(pool: Pool) -> None:
        just_handed_out = pool.submit(zoo.add, 1, 1)
        await pool.close()
        with pytest.raises(Draining):
            await just_handed_out.result()
        with pytest.raises(Draining):
            pool.submit(zoo.add, 1, 1)

    with_pool(scenario)


def test_closing_the_pool_fails_its_jobs_and_leaves_no_process() -> None:
    pids: list[int] = []
    jobs: list[asyncio.Task[None]] = []

    async def scenario(pool: Pool) -> None:
        pids.append(await pool.run(zoo.own_pid))
        jobs.extend(asyncio.create_task(pool.run(zoo.sleeps_for_ever)) for _ in range(3))
        await until(lambda: pool.running_jobs and len(pool.waiting_jobs) == 2)
        await pool.close()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["CutOff", "Draining", "Draining"]
        assert not is_alive(pids[0])

    with_pool(scenario)


@pytest.mark.timeout(300)
def test_in_a_soak_every_job_ends_exactly_once_and_nothing_is_left(pytestconfig: pytest.Config) -> None:
    # In a process of its own: it kills children of its process at random.
    seconds = 20 if pytestconfig.getoption("--short") else 60
    command = [sys.executable, "-m", "tests.bench.soak", f"--seconds={seconds}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    usual = ["answered", "late", "cancelled", "raised", "died", "forked", "streamed"]
    for outcome in (*usual, "left a child", "kill -9 of a worker", "kill -9 of an instance"):
        assert f"'{outcome}': " in done.stdout


def test_an_operator_ends_a_job_that_runs_and_one_that_waits_and_the_others_go_on() -> None:
    async def scenario(pool: Pool) -> None:
        runs, waits, last = (pool.submit(task) for task in (zoo.sleeps_for_ever, zoo.own_pid, zoo.own_pid))
        await until(lambda: pool.running_jobs)
        pool.cancel(waits)
        with pytest.raises(CutOff, match="before it could start"):
            await waits.result()
        await until(lambda: list(pool.waiting_jobs) == [last])
        pool.cancel(runs)
        with pytest.raises(CutOff, match="while it ran"):
            await runs.result()
        pool.cancel(runs)
        assert await last.result() != runs.worker_pid

    with_pool(scenario)
