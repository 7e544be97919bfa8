"""Libraries with threads, processes, files or random numbers of their own, in a sandbox as by default."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from slowpool.workers import warm
from tests.apps import libraries
from tests.support.pool import Pool, is_dead, until, with_pool

warm.functions.remove(libraries.model)  # the templates of other tests need not load it

APP = "tests.apps.libraries:model"

STARTS = pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])


@STARTS
@pytest.mark.parametrize(
    ("task", "args", "expected"),
    [
        (libraries.makes_a_thumbnail, (), ((64, 48), "JPEG")),
        (libraries.uses_multiprocessing, ("fork",), [41, 1, 2, 7]),
        (libraries.uses_multiprocessing, ("spawn",), [41, 1, 2, 7]),
        (libraries.uses_executors, (), [1, 2, 3, 4]),
        (libraries.uses_subprocess, (), "abab"),
        (libraries.uses_asyncio, (), ["echo", "program", "thread"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_tasks_use_libraries_as_anywhere(
    task: Callable[..., object], args: tuple[object, ...], expected: object, fork: bool
) -> None:
    async def scenario(pool: Pool) -> None:
        for _ in range(2):  # the second job of a worker finds what the first one left
            assert await pool.run(task, *args) == expected
        assert pool._spawner.forks == fork

    with_pool(scenario, slow_fork=fork, app=APP, slow_sandbox=True)


@STARTS
@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_a_pool_of_processes_that_a_task_keeps_ends_with_its_job_and_the_next_one_makes_another(
    kind: str, fork: bool
) -> None:
    async def scenario(pool: Pool) -> None:
        pids: set[int] = set()
        for _ in range(3):
            worker, child, answers = await pool.run(libraries.keeps_a_pool, kind)
            assert answers == [1, 2]
            assert not {worker, child} & pids
            pids |= {worker, child}
            await until(lambda child=child: is_dead(child))  # type: ignore[misc]  # a default is no argument

    with_pool(scenario, slow_fork=fork, app=APP, slow_sandbox=True)


@STARTS
def test_each_worker_writes_to_a_database_over_a_connection_of_its_own(fork: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "jobs.sqlite")

    async def scenario(pool: Pool) -> None:
        await pool.run(libraries.writes_to_a_database, path, 0)
        jobs = [pool.run(libraries.writes_to_a_database, path, number) for number in range(1, 100)]
        await asyncio.gather(*jobs)
        rows = libraries.rows_in(path)
        assert [number for number, _ in rows] == [*range(100)]
        assert len({worker for _, worker in rows}) == 2

    with_pool(scenario, slow_fork=fork, app=APP, slow_sandbox=True, slow_workers=2, slow_queue=100)


@STARTS
def test_workers_draw_different_random_numbers(fork: bool) -> None:
    pytest.importorskip("numpy")

    async def scenario(pool: Pool) -> None:
        drawn = [await pool.run(libraries.draws_numbers) for _ in range(4)]
        for numbers in zip(*drawn, strict=True):
            assert len({*numbers}) == len(drawn)

    with_pool(scenario, slow_fork=fork, app=APP, slow_sandbox=True, slow_max_jobs=1)


@STARTS
def test_products_of_matrices_are_right_after_the_library_has_started_threads_in_the_template(
    fork: bool,
) -> None:
    pytest.importorskip("numpy")

    async def scenario(pool: Pool) -> None:
        errors = await asyncio.gather(*(pool.run(libraries.multiplies) for _ in range(8)))
        assert max(errors) < 1e-9
        assert pool._spawner.forks == fork

    with_pool(scenario, slow_fork=fork, app=APP, slow_sandbox=True, slow_workers=2, slow_queue=8)


def test_forked_workers_share_the_memory_of_what_was_loaded_before() -> None:
    pytest.importorskip("numpy")

    async def scenario(pool: Pool) -> None:
        found = await asyncio.gather(*(pool.run(libraries.reads_the_model) for _ in range(2)))
        for _, total, own_bytes in found:
            assert total == libraries.MODEL_BYTES / 8
            assert own_bytes < libraries.MODEL_BYTES / 2

    with_pool(scenario, app=APP, slow_sandbox=True, slow_workers=2)
