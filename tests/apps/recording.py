"""Requests that say which one they were, and of each POST a record that it has run.

The argument ``folder`` is a folder of the test's, in which each POST adds its id to the file ``executed``.
"""

import os
import time
from pathlib import Path

from tornado.web import Application, RequestHandler

import slowpool

LARGE = b"x" * (1 << 19)


class RecordHandler(RequestHandler):
    """The same at once."""

    def get(self) -> None:
        self.finish(self.get_argument("id"))

    def post(self) -> None:
        record(Path(self.get_argument("folder")), self.get_argument("id"))
        self.get()


class SlowRecordHandler(RequestHandler):
    """The same after some milliseconds in a worker."""

    async def get(self) -> None:
        milliseconds = int(self.get_argument("milliseconds", "0"))
        self.finish(await slowpool.run(work, self.get_argument("id"), milliseconds / 1000))


class JobHandler(RequestHandler):
    """The same, and records in a worker that it runs."""

    async def get(self) -> None:
        milliseconds = int(self.get_argument("milliseconds"))
        folder, name = self.get_argument("folder"), self.get_argument("id")
        self.finish(await slowpool.run(recorded_work, folder, name, milliseconds / 1000))

    async def post(self) -> None:
        await self.get()


class LargeHandler(RequestHandler):
    """Answers with more than the buffers on the way to a client take."""

    def get(self) -> None:
        self.finish(LARGE)

    def compute_etag(self) -> None:
        """None: it would take longer than all else."""


def work(name: str, seconds: float) -> str:
    """Takes its time."""
    time.sleep(seconds)
    return name


def recorded_work(folder: str, name: str, seconds: float) -> str:
    """The same, recorded."""
    record(Path(folder), name)
    return work(name, seconds)


def record(folder: Path, name: str) -> None:
    """Add a line, whole, whoever else does so at the same time."""
    file = os.open(folder / "executed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{name}\n".encode())
    finally:
        os.close(file)


def make_app() -> Application:
    return Application(
        [
            (r"/record", RecordHandler),
            (r"/slow/record", SlowRecordHandler),
            (r"/slow/job", JobHandler),
            (r"/large", LargeHandler),
        ]
    )
