"""A worker pool in the process of the test."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from slowpool.config import Config
from slowpool.workers.pool import WorkerPool

HANG_SECONDS = 30

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Pool(WorkerPool):
    """A worker pool that runs tasks for the test itself."""

    async def run(self, task: Callable[[*Ts], T], *args: *Ts, timeout: float | None = None) -> T:
        """Run a task in a worker and return its result; ``timeout`` in seconds, waiting included."""
        return await self.submit(task, *args, timeout=timeout).result()


def with_pool(scenario: Callable[[Pool], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario with a started pool, and close the pool."""

    async def main() -> None:
        # It must not give way to other tests; the module of the tasks is quickly imported.
        pool = Pool(Config(**{"slow_nice": 0, "app": "tests.apps.zoo:add", "slow_workers": 1, **settings}))
        await pool.start()
        try:
            await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true; TimeoutError when it never is."""
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


def idle_workers(pool: WorkerPool) -> int:
    """How many of its workers wait for a job."""
    return sum(not slot.done() for slot in pool._idle)


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def is_dead(pid: int) -> bool:
    return not is_alive(pid)


def all_dead(pids: Iterable[int]) -> bool:
    return all(map(is_dead, pids))
