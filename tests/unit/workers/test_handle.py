"""How a worker starts and ends, as its instance sees it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slowpool.config import Config
from slowpool.errors import DeadlinePassed, WorkerDied
from slowpool.workers.handle import WorkerHandle
from slowpool.workers.spawner import Spawner
from tests.apps import zoo
from tests.support.pool import Pool, is_alive, is_dead, until, with_pool


def test_the_children_of_a_killed_worker_die_even_in_a_session_of_their_own(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        path = tmp_path / "pids"
        job = asyncio.create_task(pool.run(zoo.spawns_children_and_threads, str(path)))
        await until(path.exists)
        children = [int(pid) for pid in path.read_text().split()]
        assert len(children) == 2
        assert all(map(is_alive, children))
        job.cancel()
        await until(lambda: all(map(is_dead, children)))
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_worker_whose_start_is_cancelled_leaves_no_socket_unclosed(turns: int) -> None:
    async def scenario() -> None:
        config = Config(slow_nice=0, app="tests.apps.zoo:add")
        spawner = Spawner(config)
        await spawner.start()
        worker = WorkerHandle(config, spawner)
        starting = asyncio.create_task(worker.start())
        for _ in range(turns):  # of the loop
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await worker.stop(10)
        await spawner.close()

    asyncio.run(scenario())  # a ResourceWarning would be an error


@pytest.mark.parametrize(
    ("task", "text"),
    [(zoo.exits, "exited with status 3"), (zoo.segfaults, "was killed by SIGSEGV")],
)
def test_a_dead_worker_is_named_with_its_pid_and_how_it_ended(task: Callable[[], None], text: str) -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(WorkerDied) as died:
            await pool.run(task)
        assert died.value.log_text == f"worker {pid} {text}"

    with_pool(scenario)


def test_without_pidfds_the_end_of_a_worker_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError("not allowed")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def scenario(pool: Pool) -> None:
        with pytest.raises(WorkerDied):
            await pool.run(zoo.exits)
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.spins_for_ever, timeout=0.2)
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)
