"""Answers whose parts come from a task, by slowpool.stream.

The argument ``folder`` is a folder of the test's, as in ``tests.apps.controlled``: a task waits in it for the
file ``next-0`` before its first row, and so on.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import slowpool
from tests.apps.controlled import enter, wait

BLOCK = bytes(1 << 20)


class RowsHandler(RequestHandler):
    """Three rows."""

    async def get(self) -> None:
        async for row in slowpool.stream(rows, self.get_argument("folder")):
            self.write(row)
            await self.flush()


class BreaksHandler(RequestHandler):
    """Ten rows and an error, whose text is the last row where the handler catches it."""

    async def get(self) -> None:
        try:
            async for row in slowpool.stream(breaks):
                self.write(row)
                await self.flush()
        except ValueError as error:
            if not self.get_argument("catch", ""):
                raise
            self.finish(f"{error}\n")


class BlocksHandler(RequestHandler):
    """So many megabytes."""

    async def get(self) -> None:
        async for block in slowpool.stream(
            blocks, int(self.get_argument("count")), self.get_argument("folder")
        ):
            self.write(block)
            await self.flush()


class BothHandler(RequestHandler):
    """The rows of two streams at once, the second of which has to wait for the first."""

    async def get(self) -> None:
        folder = self.get_argument("folder")
        both = await asyncio.gather(collect(folder, "a", "b"), collect(folder, "b", "a"))
        self.finish({"rows": both})


class SiblingHandler(RequestHandler):
    """Two jobs at once, the second of which fails once the first runs."""

    async def get(self) -> None:
        folder = self.get_argument("folder")
        await asyncio.gather(slowpool.run(wait, folder), slowpool.run(fails_once_entered, folder))


class EarlyHandler(RequestHandler):
    """The first row of a stream that would have more; the handler goes on without it."""

    async def get(self) -> None:
        async for row in slowpool.stream(rows, self.get_argument("folder")):
            self.finish(row)
            break


class RowsSocket(WebSocketHandler):
    """Answers a message, a folder, with the rows of its task."""

    async def on_message(self, message: str | bytes) -> None:
        async for row in slowpool.stream(rows, str(message)):
            await self.write_message(row)


async def collect(folder: str, own: str, other: str) -> list[str]:
    return [row async for row in slowpool.stream(in_turns, folder, own, other)]


def rows(path: str) -> Iterator[str]:
    """Three rows, each once the test has made a file for it."""
    folder = enter(path)
    for number in range(3):
        wait_for(folder / f"next-{number}")
        yield f"row {number}\n"


def breaks() -> Iterator[str]:
    for number in range(10):
        yield f"row {number}\n"
    raise ValueError("no more rows")


def blocks(count: int, path: str) -> Iterator[bytes]:
    """Megabytes; a file ``made`` has a byte for each."""
    folder = enter(path)
    with (folder / "made").open("ab", 0) as made:
        for _ in range(count):
            yield BLOCK
            made.write(b".")


def in_turns(path: str, own: str, other: str) -> Iterator[str]:
    """Two rows, the second once the other stream has made its first."""
    folder = enter(path)
    yield f"{own} 0"
    (folder / own).touch()
    wait_for(folder / other)
    yield f"{own} 1"


def fails_once_entered(path: str) -> None:
    wait_for(Path(path) / "entered")
    raise ValueError("one of two")


def wait_for(file: Path) -> None:
    """Wait until the file is there, or the test has gone."""
    while file.parent.exists() and not file.exists():
        time.sleep(0.01)


def make_app() -> Application:
    return Application(
        [
            (r"(?:/slow)?/rows", RowsHandler),
            (r"/slow/breaks", BreaksHandler),
            (r"/slow/blocks", BlocksHandler),
            (r"/slow/both", BothHandler),
            (r"/slow/sibling", SiblingHandler),
            (r"/slow/early", EarlyHandler),
            (r"/slow/socket", RowsSocket),
        ]
    )
