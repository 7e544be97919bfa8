"""Answers that are sent in parts.

The argument ``folder`` is a folder of the test's, as in ``tests.apps.controlled``.
"""

import asyncio
from pathlib import Path

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps.controlled import enter, released

PART = b"x" * 200_000
"""More than nginx keeps of an answer."""


class EventsHandler(RequestHandler):
    """Server-sent events, the next one when the test has added another file, until the client goes."""

    def initialize(self) -> None:
        self.is_left = False

    async def get(self) -> None:
        folder = enter(self.get_argument("folder"))
        self.set_header("Content-Type", "text/event-stream")
        number = 0
        while not self.is_over():
            self.write(f"data: {number}\n\n")
            await self.flush()
            while not self.is_over() and not (folder / f"next-{number}").exists():
                await asyncio.sleep(0.01)
            number += 1

    def is_over(self) -> bool:
        return self.is_left

    def on_connection_close(self) -> None:
        self.is_left = True


class PoliteEventsHandler(EventsHandler):
    """The same, which says goodbye when its instance drains."""

    async def get(self) -> None:
        await super().get()
        self.finish("data: bye\n\n")

    def is_over(self) -> bool:
        return self.is_left or slowpool.draining.is_set()


class DownloadHandler(RequestHandler):
    """So many parts, each when the test has opened the gate, with a length that is known."""

    async def get(self) -> None:
        folder, count = enter(self.get_argument("folder")), int(self.get_argument("parts"))
        self.set_header("Content-Length", str(count * len(PART)))
        for _ in range(count):
            self.write(PART)
            await self.flush()
            while not released(folder):
                await asyncio.sleep(0.01)


class WholeHandler(RequestHandler):
    """An answer in one part, and no other."""

    def get(self) -> None:
        self.finish("whole")


class OwnBufferingHandler(RequestHandler):
    """Says itself what nginx should do."""

    async def get(self) -> None:
        self.set_header("X-Accel-Buffering", "yes")
        self.write("one")
        await self.flush()
        self.finish("two")


class LeftHandler(RequestHandler):
    """Notes that its client has gone, without super()."""

    async def get(self) -> None:
        enter(self.get_argument("folder"))
        self.write("begun")
        await self.flush()
        self.left = asyncio.Event()
        await self.left.wait()

    def on_connection_close(self) -> None:
        (Path(self.get_argument("folder")) / "gone").touch()
        self.left.set()


def make_app() -> Application:
    return Application(
        [
            (r"/events", EventsHandler),
            (r"/slow/events", EventsHandler),
            (r"/polite", PoliteEventsHandler),
            (r"/download", DownloadHandler),
            (r"/whole", WholeHandler),
            (r"/buffering", OwnBufferingHandler),
            (r"/left", LeftHandler),
        ]
    )
