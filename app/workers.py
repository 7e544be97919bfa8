"""The worker processes of a slow instance."""

import asyncio
import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from app.config import Config

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """Runs tasks in worker processes, ``config.slow_workers`` at a time."""

    def __init__(self, config: Config) -> None:
        self._executor = ProcessPoolExecutor(
            config.slow_workers, mp_context=multiprocessing.get_context("forkserver")
        )

    async def run(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a task in a worker and return its result; what it raises is raised here."""
        call = functools.partial(task, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def close(self) -> None:
        """End the workers; jobs that still run are awaited."""
        self._executor.shutdown(cancel_futures=True)
