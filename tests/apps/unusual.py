"""What few applications do, each thing in a handler of its own.

The argument ``folder`` is a folder of the test's, as in ``tests.apps.controlled``.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Generator
from typing import Any

from tornado import gen
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

import slowpool
from tests.apps.controlled import enter


class Unusual(Application):
    """Finds no handler for one path, and has a server of its own on another port."""

    own_port = 0

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        return None if request.path == "/none" else super().find_handler(request, **kwargs)


class PlainHandler(RequestHandler):
    """Answers at once."""

    def get(self) -> None:
        self.finish("ok")


class PairHandler(RequestHandler):
    """Runs two jobs at once."""

    async def get(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(slowpool.run(os.getpid))
        self.finish("a pair")


class StubbornHandler(RequestHandler):
    """Tries again, whatever has happened."""

    async def get(self) -> None:
        for _ in range(3):
            try:
                await slowpool.run(os.getpid)
                break
            except:  # noqa: E722  # on purpose
                continue
        self.finish("at last")


@stream_request_body
class PartsHandler(RequestHandler):
    """Runs a job for each part of the body."""

    def prepare(self) -> None:
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        self.size += await slowpool.run(len, chunk)

    def put(self) -> None:
        self.finish(f"{self.size} bytes")


class NamedHandler(RequestHandler):
    """Runs a task that has an argument of the name ``task``."""

    async def get(self) -> None:
        self.finish(await slowpool.run(named, task=7))


class TimingHandler(RequestHandler):
    """Says how long something else has taken."""

    async def get(self) -> None:
        self.set_header("Server-Timing", "db;dur=5")
        await slowpool.run(os.getpid)
        self.finish("timed")


class RedirectingHandler(RequestHandler):
    """Would have another nginx send a file."""

    def get(self) -> None:
        self.set_header("X-Accel-Redirect", "/files/secret")
        self.finish("redirected")


class CoroutineHandler(RequestHandler):
    """Blocks its instance after it has waited, in a coroutine as they were before Python had them."""

    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        yield gen.sleep(0.01)
        time.sleep(float(self.get_argument("seconds")))
        self.finish("done")


class BlockingTalkHandler(WebSocketHandler):
    """Blocks its instance for so many seconds."""

    def on_message(self, message: str | bytes) -> None:
        time.sleep(float(message))
        self.write_message("done")


class LambdaTalkHandler(WebSocketHandler):
    """Runs what is no task."""

    async def on_message(self, message: str | bytes) -> None:
        await slowpool.run(lambda: message)


class DetachingHandler(RequestHandler):
    """Speaks another protocol, and closes the connection."""

    async def get(self) -> None:
        stream = self.detach()
        await stream.write(b"something else")
        stream.close()


@stream_request_body
class TakingHandler(RequestHandler):
    """Takes the body as it comes."""

    def data_received(self, chunk: bytes) -> None:
        if folder := self.get_argument("folder", ""):
            enter(folder)

    def put(self) -> None:
        time.sleep(float(self.get_argument("seconds")))
        self.finish("taken")


class FailingToLeaveHandler(TakingHandler):
    """Fails when its client has gone."""

    def on_connection_close(self) -> None:
        raise ZeroDivisionError("at the end of the connection")


class OwnPortHandler(RequestHandler):
    """Says where the application's own server listens."""

    def get(self) -> None:
        assert isinstance(self.application, Unusual)
        self.finish(str(self.application.own_port))


class OwnBlockHandler(RequestHandler):
    """Blocks the instance from the application's own server."""

    def get(self) -> None:
        time.sleep(float(self.get_argument("seconds")))
        self.finish("blocked")


@contextlib.asynccontextmanager
async def own_server(app: Unusual) -> AsyncIterator[None]:
    """The application's own server, while the instance runs."""
    server = HTTPServer(Application([(r"/block", OwnBlockHandler)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    app.own_port = sockets[0].getsockname()[1]
    yield
    server.stop()
    await server.close_all_connections()


def named(task: int) -> str:
    """A task with an argument of this name."""
    return f"task {task}"


def make_app() -> Application:
    return Unusual(
        [
            (r"/ok", PlainHandler),
            (r"/pair", PairHandler),
            (r"/stubborn", StubbornHandler),
            (r"/parts", PartsHandler),
            (r"/named", NamedHandler),
            (r"/timing", TimingHandler),
            (r"/redirecting", RedirectingHandler),
            (r"/coroutine", CoroutineHandler),
            (r"/talk/blocking", BlockingTalkHandler),
            (r"/talk/lambda", LambdaTalkHandler),
            (r"/detaching", DetachingHandler),
            (r"/taking", TakingHandler),
            (r"/failing-to-leave", FailingToLeaveHandler),
            (r"/own-port", OwnPortHandler),
        ],
        lifespan=own_server,
    )
