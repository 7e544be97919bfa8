"""The demo with one more route for the benchmark, and the task behind it."""

import os
import time

from tornado.web import Application, RequestHandler

import demo
import slowpool


def spin(pid_file: str) -> None:
    """Write this process's pid to the file, and compute until killed."""
    with open(pid_file + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(pid_file + ".part", pid_file)
    while True:
        time.perf_counter()


class SpinHandler(RequestHandler):
    async def get(self) -> None:
        await slowpool.run(spin, self.get_argument("file"))


def make_app() -> Application:
    app = demo.make_app()
    app.add_handlers(".*", [(r"/slow/spin", SpinHandler)])
    return app
