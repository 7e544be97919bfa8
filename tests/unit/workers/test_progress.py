"""How far a job is: the newest values, and only its own."""

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.workers import progress
from slowpool.workers.progress import MAX_MESSAGE_BYTES, Page, Progress
from tests.apps import forks, places, zoo
from tests.support.pool import Pool, until, with_pool


@pytest.fixture
def shared() -> Iterator[int]:
    """The file of a worker and its instance."""
    fd = progress.make_file()
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ((3, 10, "three"), (3.0, 10.0, "three")),
        ((3, None, ""), (3.0, None, "")),
        ((0.5, math.nan, "x"), (0.5, None, "x")),
        ((-1, math.inf, "é 漢 🐌"), (-1.0, math.inf, "é 漢 🐌")),
        ((1, 1, "x" * 300), (1.0, 1.0, "x" * MAX_MESSAGE_BYTES)),
        ((1, 1, "漢" * 100), (1.0, 1.0, "漢" * 66 + "\ufffd")),  # 66 * 3 of 200 bytes, and a part of one
        ((1, 1, "\ud800"), (1.0, 1.0, "?")),
    ],
)
def test_what_is_told_is_what_is_seen(
    told: tuple[float, float | None, str], seen: tuple[float, float | None, str], shared: int
) -> None:
    page = Page(shared)
    page.begin(5)
    page.write(*told)
    assert progress.read(shared, 5) == Progress(*seen)


def test_only_the_newest_values_of_the_job_that_runs_are_seen(shared: int) -> None:
    page = Page(shared)
    page.write(1, 1, "no job")
    page.begin(5)
    assert progress.has_begun(shared, 5)
    assert progress.read(shared, 5) is None
    page.write(1, 3, "first")
    page.write(2, 3, "second")
    assert progress.read(shared, 5) == Progress(2, 3, "second")
    assert progress.read(shared, 6) is None
    page.end()
    page.write(3, 3, "after its end")
    assert progress.read(shared, 5) == Progress(2, 3, "second")
    page.begin(6)
    assert not progress.has_begun(shared, 5)
    assert progress.read(shared, 6) is None
    page.write(1, None, "")
    assert progress.read(shared, 5) is None


def test_a_file_that_the_task_made_shorter_or_wrote_rubbish_into_ends_nothing(shared: int) -> None:
    os.pwrite(shared, bytes(range(256)) * 16, 0)
    assert progress.read(shared, 5) is None
    os.ftruncate(shared, 10)
    assert progress.read(shared, 5) is None
    assert not progress.has_begun(shared, 5)


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [(1, 4, 0.25), (5, 4, 1.0), (-1, 4, 0.0), (1, None, None), (1, 0, None)],
)
def test_a_fraction_is_between_none_and_all(done: float, total: float | None, fraction: float | None) -> None:
    assert Progress(done, total, "").fraction == fraction


def test_outside_of_a_task_progress_does_nothing() -> None:
    progress.progress(1, 2, "three")


def test_the_progress_of_a_running_job_is_seen_and_stays_when_it_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "go on"

    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.tells, [(1.0, 3.0, "first"), (2.0, None, "ünï")], str(path))
        assert job.progress is None
        await until(lambda: job.progress == Progress(2, None, "ünï"))
        path.touch()
        await job.result()
        assert job.progress == Progress(2, None, "ünï")
        other = pool.submit(zoo.add, 1, 1)
        assert await other.result() == 2
        assert other.progress is None
        dead = pool.submit(places.tells, [(1.0, 3.0, "first")], str(tmp_path / "never"))
        await until(lambda: dead.progress)
        dead.cancel()
        await until(lambda: not pool.running_jobs)
        assert dead.progress == Progress(1, 3, "first")
        assert dead.run_seconds > 0

    with_pool(scenario)


def test_progress_can_be_told_a_hundred_thousand_times_and_from_threads() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.tells_often, 100_000)
        seen = [0.0]
        while not job.outcome.done():
            if now := job.progress:
                assert now.message == f"row {now.done - 1:.0f}"
                seen.append(now.done)
            await asyncio.sleep(0)
        assert await job.result() == 100_000
        assert job.progress == Progress(100_000, 100_000, "row 99999")
        assert seen == sorted(seen)
        threads = pool.submit(places.tells_from_threads, 4, 5_000)
        while not threads.outcome.done():
            if (now := threads.progress) and now.message != "all":
                assert now.message == f"{(now.total or 0) - 1:.0f} {now.done:.0f}"
            await asyncio.sleep(0)
        assert await threads.result() == 4
        assert threads.progress == Progress(5_000, 5_000, "all")

    with_pool(scenario)


@pytest.mark.parametrize("by", ["os.fork", "os.forkpty"])
def test_what_a_forked_child_tells_is_not_the_progress_of_the_job(by: str) -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(places.tells_from_a_child, by)
        assert await job.result() == "the parent's"
        assert job.progress == Progress(1, 2, "the parent's")

    with_pool(scenario)
    assert by in forks.FORKS
