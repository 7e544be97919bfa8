"""Routes for the benchmark, and the task behind them."""

import os
import time

from demo.routes import FastHandler
from demo.strategies import WorkerHandler
from slowpool.web import SlowHandler


def spin(pid_file: str) -> None:
    """Write this process's pid to the file, and compute until killed."""
    with open(pid_file + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(pid_file + ".part", pid_file)
    while True:
        time.perf_counter()


class SpinHandler(SlowHandler):
    async def get(self) -> None:
        await self.run(spin, self.get_argument("file"))


routes = [(r"/fast", FastHandler), (r"/slow_threaded", WorkerHandler), (r"/slow/spin", SpinHandler)]
