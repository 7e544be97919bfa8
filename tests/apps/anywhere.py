"""Jobs on paths that are not slow by their name, each run in one way.

The argument ``folder`` is a folder of the test's, as in ``tests.apps.controlled``.
"""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tornado import gen
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

import slowpool
from tests.apps.controlled import wait


class PlainHandler(RequestHandler):
    """Answers at once."""

    def get(self) -> None:
        self.finish("ok")


class SeenHandler(RequestHandler):
    """Says what has come, from a worker."""

    def prepare(self) -> None:
        self.set_header("X-Prepared", "yes")
        self.set_cookie("prepared", "yes")

    async def get(self, *parts: str) -> None:
        request = self.request
        seen = {
            "method": request.method,
            "uri": request.uri,
            "parts": list(parts),
            "headers": dict(request.headers.get_all()),
            "client": request.remote_ip,
            "protocol": request.protocol,
            "size": len(request.body),
            "digest": hashlib.sha256(request.body).hexdigest(),
        }
        text, pid = await slowpool.run(dumped, seen)
        self.set_header("X-Worker", str(pid))
        self.finish(text)

    head = post = put = patch = delete = options = get


class WaitHandler(RequestHandler):
    """Waits in a worker until the test says so."""

    async def get(self) -> None:
        self.finish(await slowpool.run(wait, self.get_argument("folder")))

    post = get


class LargeHandler(RequestHandler):
    """Answers more than nginx and the kernel keep for a client that does not read."""

    def get(self) -> None:
        self.finish(b"x" * 30_000_000)


class CatchingHandler(RequestHandler):
    """Catches whatever a task may raise."""

    async def get(self) -> None:
        try:
            _, pid = await slowpool.run(dumped, {})
        except Exception as error:
            raise HTTPError(500, "caught %r", error) from error
        self.finish(str(pid))


class NestedHandler(RequestHandler):
    """Runs jobs deep in what it calls, at once and one after the other."""

    async def get(self) -> None:
        pids = {os.getpid()}
        for found in await asyncio.gather(self.one(), asyncio.create_task(self.one()), self.one()):
            pids |= found
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.one()) for _ in range(2)]
        for task in running:
            pids |= task.result()
        self.finish(f"{len(pids) > 1}")

    async def one(self) -> set[int]:
        await asyncio.sleep(0)
        return {(await asyncio.wait_for(slowpool.run(dumped, {}), 30))[1]}


class OldHandler(RequestHandler):
    """A coroutine as they were before Python had them."""

    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        text, _ = yield slowpool.run(dumped, seen={"old": True})
        self.finish(text)


class BegunHandler(RequestHandler):
    """Runs a job when a part of its answer has left."""

    async def get(self) -> None:
        self.write("begun ")
        await self.flush()
        try:
            await slowpool.run(dumped, {})
            self.finish("and done")
        except RuntimeError as error:
            self.finish(f"{error}")


class HooksHandler(RequestHandler):
    """Notes in the folder which of its hooks are called."""

    def initialize(self) -> None:
        self.note("initialize")

    def prepare(self) -> None:
        self.note("prepare")

    def on_finish(self) -> None:
        self.note(f"on_finish {self.get_status()}")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.note("write_error")

    async def get(self) -> None:
        self.note("get")
        await slowpool.run(dumped, {})
        self.finish("done")

    def note(self, hook: str) -> None:
        with (Path(self.get_argument("folder")) / "hooks").open("a") as file:
            file.write(f"{hook}\n")


class OwnPageHandler(WaitHandler):
    """Has its own page for what goes wrong."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish(f"sorry: {status_code}")


class LeavingHandler(WaitHandler):
    """Does not tell Tornado's handler that its client has gone."""

    def on_connection_close(self) -> None:
        (Path(self.get_argument("folder")) / "gone").touch()


class StallHandler(RequestHandler):
    """Blocks whoever runs it, for a while or until the test says so."""

    def get(self, *parts: str) -> None:
        if folder := self.get_argument("folder", ""):
            wait(folder)
        else:
            time.sleep(float(self.get_argument("seconds")))
        self.finish(f"stalled {parts}")

    post = get


@stream_request_body
class UploadHandler(RequestHandler):
    """Takes the body as it comes, and then runs a job."""

    def prepare(self) -> None:
        self.size = 0

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)

    async def put(self) -> None:
        text, _ = await slowpool.run(dumped, {"size": self.size})
        self.finish(text)


class EagerHandler(UploadHandler):
    """Runs a job before its body has arrived."""

    async def prepare(self) -> None:  # type: ignore[override]  # Tornado awaits it
        self.size = 0
        await slowpool.run(dumped, {})


class LateHandler(RequestHandler):
    """Takes its time before it runs a job."""

    async def get(self) -> None:
        await asyncio.sleep(float(self.get_argument("seconds")))
        self.finish(await slowpool.run(wait, self.get_argument("folder")))


class TalkHandler(WebSocketHandler):
    """Runs a job for each message."""

    async def on_message(self, message: str | bytes) -> None:
        try:
            text, _ = await slowpool.run(dumped, {"said": str(message)})
        except RuntimeError as error:
            text = str(error)
        self.write_message(text)


class ForgottenHandler(RequestHandler):
    """Answers while its job still runs."""

    async def get(self) -> None:
        self.task = asyncio.create_task(slowpool.run(wait, self.get_argument("folder")))
        await asyncio.sleep(0)
        self.finish("answered")


def dumped(seen: dict[str, object]) -> tuple[str, int]:
    """As JSON; and the process that did it."""
    return json.dumps(seen), os.getpid()


def make_app() -> Application:
    return Application(
        [
            (r"/seen(.*)", SeenHandler),
            (r"/slow/seen(.*)", SeenHandler),
            (r"/wait", WaitHandler),
            (r"/slow/wait", WaitHandler),
            (r"/slow/large", LargeHandler),
            (r"/catching", CatchingHandler),
            (r"/nested", NestedHandler),
            (r"/old", OldHandler),
            (r"/begun", BegunHandler),
            (r"/slow/begun", BegunHandler),
            (r"/hooks", HooksHandler),
            (r"/slow/hooks", HooksHandler),
            (r"/own-page", OwnPageHandler),
            (r"/leaving", LeavingHandler),
            (r"/stall/(.*)", StallHandler),
            (r"/ok", PlainHandler),
            (r"/upload", UploadHandler),
            (r"/eager", EagerHandler),
            (r"/late", LateHandler),
            (r"/talk", TalkHandler),
            (r"/slow/talk", TalkHandler),
            (r"/forgotten", ForgottenHandler),
        ]
    )
