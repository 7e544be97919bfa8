"""Jobs that tell how far they are. The argument ``folder`` is a folder of the test's."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps.controlled import wait
from tests.apps.rows import wait_for


class ToldHandler(RequestHandler):
    """What a function of this kind is told, and when: a task waits until its first step has been told."""

    async def get(self, kind: str) -> None:
        folder = self.get_argument("folder")
        told: list[object] = []

        def note(*progress: object) -> None:
            told.append(progress)
            (Path(folder) / "told").touch()
            if kind == "raising":
                raise ZeroDivisionError("in on_progress")

        async def note_later(*progress: object) -> None:
            await asyncio.sleep(0)
            note(*progress)

        on_progress: Callable[..., Any] = note_later if kind == "async" else note
        result = await slowpool.run(two_steps, folder, on_progress=on_progress)
        self.finish({"told": told, "result": result})


class PagesHandler(RequestHandler):
    """A job at a third of its way, until the test lets it go on."""

    async def get(self) -> None:
        message = self.get_argument("message", "page 3 of 9")
        self.finish(await slowpool.run(pages, self.get_argument("folder"), message))


def two_steps(path: str) -> str:
    slowpool.progress(1, 4, "one")
    wait_for(Path(path) / "told")
    slowpool.progress(4, 4, "all")
    return "done"


def pages(path: str, message: str) -> str:
    slowpool.progress(3, 9, message)
    return wait(path)


def make_app() -> Application:
    return Application([(r"/slow/told/(\w+)", ToldHandler), (r"/slow/pages", PagesHandler)])
