"""Requests that end when the test says so, and requests that fail.

The argument ``folder`` is a folder of the test's: a request adds a line to its file ``entered`` and
waits until there is a file ``release``.
"""

import asyncio
import os
import time
from pathlib import Path

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import slowpool
from slowpool.errors import BadArgument


class WaitHandler(RequestHandler):
    """Waits without blocking its instance."""

    async def get(self) -> None:
        folder = enter(self.get_argument("folder"))
        while not released(folder):  # another process opens the gate
            await asyncio.sleep(0.01)
        self.finish("released")

    async def post(self) -> None:
        await self.get()


class BlockHandler(RequestHandler):
    """Blocks its instance."""

    def get(self) -> None:
        self.finish(wait(self.get_argument("folder")))

    def post(self) -> None:
        self.get()


class TaskHandler(RequestHandler):
    """Waits in a worker."""

    async def get(self) -> None:
        self.finish(await slowpool.run(wait, self.get_argument("folder")))


class FailingHandler(RequestHandler):
    """Fails without having said what may go wrong."""

    def get(self) -> None:
        raise ZeroDivisionError("secret of the log")


class FailingTaskHandler(RequestHandler):
    """Fails in a worker."""

    async def get(self) -> None:
        await slowpool.run(divide, 1, 0)


class PickyHandler(RequestHandler):
    """Refuses what it is asked, in a text with what could be taken for a format."""

    def get(self) -> None:
        raise BadArgument("100 %s is too much", "the log has 100 %d")


class PathHandler(RequestHandler):
    """Says which path it was asked for."""

    def get(self) -> None:
        self.finish(str(self.request.uri))

    def post(self) -> None:
        self.get()


class BodyHandler(RequestHandler):
    """Says how many bytes it was sent."""

    def get(self) -> None:
        self.finish(f"{len(self.request.body)} bytes")

    def post(self) -> None:
        self.get()


class ClientHandler(RequestHandler):
    """Says who it takes the client for."""

    def get(self) -> None:
        self.finish(f"{self.request.remote_ip} {self.request.protocol} {self.request.host}")


class TalkHandler(WebSocketHandler):
    """Says what it hears."""

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


class OwnCloseHandler(TalkHandler):
    """Has a method whose name is one of Tornado's."""

    def close(self) -> None:  # type: ignore[override]  # on purpose
        raise ZeroDivisionError


def wait(path: str) -> str:
    """Block until the file ``release`` is there."""
    folder = enter(path)
    while not released(folder):
        time.sleep(0.01)
    return "released"


def divide(dividend: int, divisor: int) -> float:
    """A task that may raise."""
    return dividend / divisor


def enter(path: str) -> Path:
    """Leave a line in the file ``entered``: its process."""
    with (Path(path) / "entered").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Path(path)


def released(folder: Path) -> bool:
    """Whether the test lets the request go on; also when it has gone, and its folder with it."""
    return (folder / "release").exists() or not folder.exists()


def make_app() -> Application:
    return Application(
        [
            (r"/wait", WaitHandler),
            (r"/slow/block", BlockHandler),
            (r"/slow/task", TaskHandler),
            (r"/fail", FailingHandler),
            (r"/slow/fail", FailingTaskHandler),
            (r"/picky", PickyHandler),
            (r"/echo.*", PathHandler),
            (r"/slow/echo.*", PathHandler),
            (r"/body", BodyHandler),
            (r"/client", ClientHandler),
            (r"/talk", TalkHandler),
            (r"/talk/own-close", OwnCloseHandler),
        ]
    )
