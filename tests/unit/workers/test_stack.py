"""Where the task of a worker is."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slowpool.errors import DeadlinePassed
from slowpool.workers.job import Job
from tests.apps import places, zoo
from tests.support.pool import Pool, until, with_pool


async def stack_of(pool: Pool, job: Job[Any], function: str) -> list[str]:
    """The frames of the job, once it is in this function of the zoo."""
    async with asyncio.timeout(30):
        while True:
            if job in pool.running_jobs:
                frames, whole = await pool.stack(job)
                if whole and frames and frames[0].endswith(f" in {function}"):
                    return frames
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
@pytest.mark.parametrize(
    ("task", "where"),
    [
        (places.computes, "spins_for_ever"),
        (places.holds_the_lock, "holds_the_interpreter_lock_for_ever"),
        (places.sleeps, "sleeps_for_ever"),
        (places.yields_and_sleeps, "sleeps_for_ever"),
    ],
)
def test_the_stack_of_a_task_begins_where_it_is_and_ends_with_the_task(
    task: Callable[[], Any], where: str, fork: bool
) -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(task, streamed=task is places.yields_and_sleeps)
        frames = await stack_of(pool, job, where)
        here, task_frame = frames
        assert here.partition(":")[0] == zoo.__file__
        assert int(here.partition(":")[2].partition(" ")[0]) > 0
        assert task_frame.partition(":")[0] == places.__file__
        assert task_frame.endswith(f" in {task.__name__}")
        job.cancel()

    with_pool(scenario, slow_fork=fork)


def test_a_deep_stack_is_told_from_its_innermost_frame_on() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.recurses, 500)
        frames = await stack_of(pool, job, "sleeps_for_ever")
        assert len(frames) == 100  # as many as faulthandler shows
        assert {frame.rpartition(" in ")[2] for frame in frames[1:]} == {"recurses"}
        job.cancel()

    with_pool(scenario)


def test_a_stopped_process_tells_no_stack_and_does_so_later() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.sleeps)
        await stack_of(pool, job, "sleeps_for_ever")
        os.kill(job.worker_pid, signal.SIGSTOP)
        assert await pool.stack(job) == ([], False)
        os.kill(job.worker_pid, signal.SIGCONT)
        await stack_of(pool, job, "sleeps_for_ever")
        job.cancel()

    with_pool(scenario)


def test_a_task_whose_stack_is_looked_at_goes_on_undisturbed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.sleeps_and_reads, 0.5, str(fifo))
        looks = 0
        while (fd := open_for_writing(fifo)) is None:
            if job in pool.running_jobs:
                await pool.stack(job)
                looks += 1
            await asyncio.sleep(0.001)
        for _ in range(20):  # while it reads
            frames, _ = await pool.stack(job)
        assert frames[0].endswith(" in sleeps_and_reads")
        os.write(fd, b"sent")
        assert await job.result() == (True, b"sent")
        os.close(fd)
        assert looks > 5

    with_pool(scenario)


def open_for_writing(fifo: Path) -> int | None:
    """None while nobody reads from it."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_the_stack_of_a_late_job_is_in_the_log_with_the_request_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(pool: Pool) -> None:
        await pool.run(zoo.add, 1, 1)
        job = pool.submit(places.holds_the_lock, timeout=1.0, request_id="id-7", route="/slow")
        with pytest.raises(DeadlinePassed):
            await job.result()
        assert job.run_seconds > 0

    with_pool(scenario)
    (record,) = [record for record in caplog.records if "whose job is late" in record.message]
    assert record.levelno == logging.WARNING
    assert record.message.startswith("killing worker ")
    assert f"it was at {zoo.__file__}:" in record.message
    assert record.message.endswith(" in holds_the_interpreter_lock_for_ever")
    fields = record.__dict__
    assert (fields["request_id"], fields["route"]) == ("id-7", "/slow")
    assert fields["task"] == "tests.apps.places.holds_the_lock"
    assert [line.rpartition(" in ")[2] for line in fields["stack"].splitlines()] == [
        "holds_the_interpreter_lock_for_ever",
        "holds_the_lock",
    ]


def test_a_stopped_process_is_killed_at_its_deadline_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.sleeps, timeout=2.0)
        await until(lambda: job.worker_pid)
        os.kill(job.worker_pid, signal.SIGSTOP)
        with pytest.raises(DeadlinePassed):
            await job.result()
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)
    assert "did not tell in time" in caplog.text


def test_a_job_that_does_not_run_has_no_stack() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(zoo.add, 1, 1)
        await job.result()
        with pytest.raises(KeyError):
            await pool.stack(job)

    with_pool(scenario)
