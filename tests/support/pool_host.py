"""A process that has a worker pool, as a slow instance has."""

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psutil

from slowpool.config import Config
from slowpool.linux.processes import adopt_orphans
from tests.support.basics import ROOT, environment, wait_until
from tests.support.pool import Pool
from tests.support.process import Process, runs

Scenario = Callable[[Pool], Awaitable[None]]

SETTINGS = {"slow_nice": 0, "app": "tests.apps.zoo:add", "slow_workers": 1}


class PoolHost(Process):
    """Runs a scenario, an async function at the top of a module, with a pool; it adopts orphans.

    The scenario must go well, unless the host is killed first. ``arguments`` are those after the pool.
    """

    def __init__(self, scenario: Callable[..., Awaitable[None]], *arguments: str, **settings: Any) -> None:
        name = f"{scenario.__module__}:{scenario.__qualname__}"
        command = [sys.executable, "-m", __name__, name, json.dumps({**SETTINGS, **settings}), *arguments]
        super().__init__(command, ROOT, {**environment({}), "PYTHONPATH": f"{ROOT}/app:{ROOT}"})

    def check_end(self) -> None:
        assert self.wait(120) == 0, "the scenario has failed"

    def descendants(self) -> list[psutil.Process]:
        """All processes below this one."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def wait_until_dead(processes: list[psutil.Process]) -> None:
    """Return when none of them lives."""
    wait_until(lambda: not [*living(processes)], what=f"the end of {processes}")


def living(processes: list[psutil.Process]) -> Iterator[psutil.Process]:
    """Those that are there and no zombies."""
    return filter(runs, processes)


def template_of(pool: Pool) -> int:
    """The pid of its template."""
    return pool._spawner.template_pid


async def main(name: str, settings: str, *arguments: str) -> None:
    """Run a scenario in this process."""
    module, _, function = name.partition(":")
    scenario = getattr(importlib.import_module(module), function)
    adopt_orphans()
    pool = Pool(Config(**json.loads(settings)))
    print("the pool starts", flush=True)
    await pool.start()
    print("the pool is ready", flush=True)
    try:
        await scenario(pool, *arguments)
    finally:
        await pool.close()
    children = psutil.Process().children(recursive=True)
    assert not children, f"left behind: {children}"


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
