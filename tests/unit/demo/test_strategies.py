"""AwaitablePool, the multiprocessing pool of the demo whose results can be awaited."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest

from demo.strategies import AwaitablePool
from tests.apps import zoo


def with_pool(scenario: Callable[[AwaitablePool], Awaitable[None]]) -> None:
    """Run a scenario with a pool of two processes; 30 s are as good as for ever."""

    async def main() -> None:
        pool = AwaitablePool(2)
        try:
            async with asyncio.timeout(30):
                await scenario(pool)
        finally:
            pool.close()

    asyncio.run(main())


def test_the_results_of_a_multiprocessing_pool_can_be_awaited() -> None:
    async def scenario(pool: AwaitablePool) -> None:
        assert await pool.apply_async(zoo.add, (1, 2)) == 3
        assert await pool.map_async(abs, [-1, 2, -3]) == [1, 2, 3]
        assert await pool.starmap_async(zoo.add, [(1, 2), (3, 4)]) == [3, 7]
        assert await asyncio.gather(*(pool.apply_async(zoo.add, (n, n)) for n in range(20))) == [
            2 * n for n in range(20)
        ]

    with_pool(scenario)


def test_an_exception_is_raised_where_it_is_awaited_with_the_workers_traceback() -> None:
    async def scenario(pool: AwaitablePool) -> None:
        with pytest.raises(ValueError, match="on purpose") as raised:
            await pool.apply_async(zoo.raises)
        assert "in raises" in str(raised.value.__cause__)
        with pytest.raises(ValueError, match="on purpose"):
            await pool.map_async(zoo.raises, ["on purpose"])

    with_pool(scenario)


def test_what_cannot_cross_to_the_instance_does_not_hang_the_pool() -> None:
    async def scenario(pool: AwaitablePool) -> None:
        with pytest.raises(RuntimeError, match="AwkwardError: 7: awkward"):
            await pool.apply_async(zoo.raises_an_awkward_error)
        with pytest.raises(TypeError, match="cannot pickle"):
            await pool.apply_async(zoo.returns_what_cannot_be_pickled)
        assert await pool.apply_async(zoo.add, (1, 2)) == 3

    with_pool(scenario)


def test_the_death_of_a_worker_does_not_hang_what_is_awaited() -> None:
    async def scenario(pool: AwaitablePool) -> None:
        pending = asyncio.ensure_future(pool.apply_async(zoo.sleep, (1000,)))
        await asyncio.sleep(0)
        for process in psutil.Process().children():
            if "spawn_main" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="a worker of the pool died"):
            await pending
        assert await pool.apply_async(zoo.add, (1, 2)) == 3

    with_pool(scenario)
