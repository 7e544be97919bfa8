"""Handlers whose answers can be fetched later; none knows of it. ``folder`` is a folder of the test's.

Whoever gives a name in ``X-User`` owns a job.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tornado.web import Application, HTTPError, RequestHandler

import slowpool
from tests.apps.controlled import divide, wait


class ReportHandler(RequestHandler):
    """A job at a third of its way, until the test lets it go on. Notes each time that the handler begins."""

    async def get(self) -> None:
        folder = Path(self.get_argument("folder"))
        with (folder / "handled").open("a") as file:
            file.write(f"{self.request.method}\n")
        text = await slowpool.run(report, str(folder))
        self.set_status(201)
        self.set_header("X-Kind", "report")
        self.set_cookie("seen", "1")
        self.finish(f"{text} {self.request.method} {len(self.request.body)}")

    async def post(self) -> None:
        await self.get()

    async def head(self) -> None:
        await self.get()


class TwiceHandler(RequestHandler):
    """Two jobs, one after the other."""

    async def get(self) -> None:
        first = await slowpool.run(divide, 6, 3)
        self.finish(f"{first} {await slowpool.run(divide, 9, 3)}")


class RowsHandler(RequestHandler):
    """A stream."""

    async def get(self) -> None:
        async for row in slowpool.stream(rows, self.get_argument("folder")):
            self.write(f"row {row}\n")
            await self.flush()


class RefusingHandler(RequestHandler):
    """Answers at once, or not at all."""

    slowpool: ClassVar = {"respond_async": False}

    async def get(self) -> None:
        self.finish(f"{await slowpool.run(divide, 6, 3)}")


class CheckingHandler(RequestHandler):
    """Finds a mistake before it runs anything."""

    async def get(self) -> None:
        raise HTTPError(400)


class FailingHandler(RequestHandler):
    """Fails in a worker."""

    async def get(self) -> None:
        await slowpool.run(divide, 1, 0)


class BrokenHandler(RequestHandler):
    """Fails in the middle of its answer."""

    async def get(self) -> None:
        self.write(f"{await slowpool.run(divide, 6, 3)}")
        await self.flush()
        await slowpool.run(divide, 1, 0)


class CountHandler(RequestHandler):
    """How many jobs have waited in the folder."""

    async def get(self) -> None:
        self.finish(f"{await slowpool.run(count, self.get_argument('folder'))}")


class LargeHandler(RequestHandler):
    """Answers with as many bytes as it is asked for."""

    async def get(self) -> None:
        for _ in range(int(self.get_argument("times"))):
            self.write(await slowpool.run(bytes, 900_000))
            await self.flush()


class ForbiddenHandler(RequestHandler):
    """Answers while its job is being accepted."""

    async def get(self) -> None:
        async def check() -> None:
            raise HTTPError(403)

        await asyncio.gather(slowpool.run(divide, 6, 3), check())


class UnmadeHandler(RequestHandler):
    """Cannot be made when there is a file ``broken``."""

    def initialize(self) -> None:
        if (Path(self.get_argument("folder")) / "broken").exists():
            raise ZeroDivisionError

    async def get(self) -> None:
        self.finish(f"{await slowpool.run(divide, 6, 3)}")


class BlockingHandler(RequestHandler):
    """Blocks its instance."""

    def get(self) -> None:
        time.sleep(float(self.get_argument("seconds")))
        self.finish("blocked")


class FinishingHandler(ReportHandler):
    """Notes that it has finished."""

    def on_finish(self) -> None:
        (Path(self.get_argument("folder")) / "finished").touch()


def report(folder: str) -> str:
    slowpool.progress(3, 9, "page 3 of 9")
    return wait(folder)


def count(folder: str) -> int:
    return len((Path(folder) / "entered").read_text().split())


def rows(folder: str) -> Iterator[int]:
    yield 1
    wait(folder)
    yield 2


def owner(handler: RequestHandler) -> str:
    return handler.request.headers.get("X-User", "")


def make_app() -> Application:
    return Application(
        [
            (r"/slow/report", ReportHandler),
            (r"/slow/twice", TwiceHandler),
            (r"/slow/rows", RowsHandler),
            (r"/slow/refusing", RefusingHandler),
            (r"/slow/checking", CheckingHandler),
            (r"/slow/failing", FailingHandler),
            (r"/slow/broken", BrokenHandler),
            (r"/slow/count", CountHandler),
            (r"/slow/large", LargeHandler),
            (r"/slow/forbidden", ForbiddenHandler),
            (r"/slow/unmade", UnmadeHandler),
            (r"/slow/blocking", BlockingHandler),
            (r"/slow/finishing", FinishingHandler),
        ],
        slowpool_job_owner=owner,
    )


def without_owner() -> Application:
    app = make_app()
    del app.settings["slowpool_job_owner"]
    return app


def refusing() -> Application:
    app = make_app()
    app.settings["slowpool_respond_async"] = False
    return app
