"""Answers that are sent in parts.

The argument ``folder`` is a folder of the test's, as in ``tests.apps.controlled``.
"""

import asyncio
from pathlib import Path

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps.controlled import enter, released

PART = b"x" * 1000


class EventsHandler(RequestHandler):
    """Server-sent events, the next one when the test has added another file, without an end."""

    async def get(self) -> None:
        folder = enter(self.get_argument("folder"))
        self.set_header("Content-Type", "text/event-stream")
        for number in range(1_000_000):
            self.write(f"data: {number}\n\n")
            await self.flush()
            while not (folder / f"next-{number}").exists():
                await self.pause()

    async def pause(self) -> None:
        await asyncio.sleep(0.01)


class PoliteEventsHandler(EventsHandler):
    """The same, which ends when its instance drains."""

    async def get(self) -> None:
        try:
            await super().get()
        except EOFError:
            self.finish("data: bye\n\n")

    async def pause(self) -> None:
        try:
            await asyncio.wait_for(slowpool.draining.wait(), 0.01)
        except TimeoutError:
            return
        raise EOFError


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
        await asyncio.sleep(1000)

    def on_connection_close(self) -> None:
        (Path(self.get_argument("folder")) / "gone").touch()


def make_app() -> Application:
    return Application(
        [
            (r"(?:/slow)?/events", EventsHandler),
            (r"/polite", PoliteEventsHandler),
            (r"/download", DownloadHandler),
            (r"/whole", WholeHandler),
            (r"/buffering", OwnBufferingHandler),
            (r"/left", LeftHandler),
        ]
    )
