"""The status page of a stand-in for an instance, which sends the figures that a test makes up."""

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

from slowpool.observe.history import STEP_SECONDS, step_number
from slowpool.status.handlers import PAGE_HEADERS
from slowpool.status.page import STATIC
from tests.support.basics import Entered

Json = dict[str, Any]


class StatusServer(Entered):
    """Serves the page at ``url`` and sends ``content`` all the time, with the time of then.

    ``hang`` lets it send nothing new, ``delay_seconds`` figures that are as old. ``holds`` is how many
    handshakes it leaves without an answer, and ``attempts`` has what all of them have said.
    """

    def __init__(self) -> None:
        self.content: Json = content()
        self.edge = ""
        self.hangs = ""
        self.delay_seconds = 0.0
        self.holds = 0
        self.attempts: list[str] = []
        self.acts: list[Json] = []
        self.act_answer: tuple[int, Json] = (202, {"text": "It drains now."})
        self.stack_answer: tuple[int, Json] = (404, {"detail": "no job with this id runs"})

    def hang(self, how: str) -> None:
        """Name the instance "the last", send that once ("silent"), or unchanged all the time ("frozen")."""
        self.last = json.dumps({**self.content, "served_by": "the last", "time": time.time()})
        self.hangs = how

    def enter(self, parts: ExitStack) -> None:
        thread = parts.enter_context(ThreadPoolExecutor(1))
        listens: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        ended = thread.submit(asyncio.run, self._serve(listens))
        port, loop, over = listens.result(30)
        parts.callback(ended.result, 30)
        parts.callback(loop.call_soon_threadsafe, over.set)
        self.url = f"http://localhost:{port}/status"

    async def _serve(self, listens: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        server = HTTPServer(
            Application(
                [
                    ("/status", _Page),
                    ("/status/live", _Live, {"server": self}),
                    ("/status/(act|stack|edge|nginx)", _Answers, {"server": self}),
                    ("/status/static/(.*)", StaticFileHandler, {"path": STATIC}),
                ],
                log_function=lambda _: None,
            )
        )
        (listening,) = bind_sockets(0, "127.0.0.1")
        server.add_socket(listening)
        self.over = asyncio.Event()
        listens.set_result((listening.getsockname()[1], asyncio.get_running_loop(), self.over))
        await self.over.wait()
        server.stop()
        await server.close_all_connections()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Page(RequestHandler):
    def get(self) -> None:
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)
        self.finish((STATIC / "status.html").read_bytes())


class _Live(WebSocketHandler):
    def initialize(self, server: StatusServer) -> None:
        self._server = server

    async def prepare(self) -> None:
        self._server.attempts.append(self.get_query_argument("attempt", "0"))
        if self._server.holds:
            self._server.holds -= 1
            await self._server.over.wait()

    def open(self, *args: str, **kwargs: str) -> None:
        self._sending = asyncio.create_task(self._send())

    def on_close(self) -> None:
        self._sending.cancel()

    async def _send(self) -> None:
        server = self._server
        has_hung = False
        while True:
            hangs = server.hangs  # once: a test sets it meanwhile
            if not hangs:
                now = time.time() - server.delay_seconds
                await self.write_message(json.dumps({**server.content, "time": now}))
            elif hangs == "frozen" or not has_hung:
                await self.write_message(server.last)
            has_hung = bool(hangs)
            await asyncio.sleep(0.25)


class _Answers(RequestHandler):
    def initialize(self, server: StatusServer) -> None:
        self._server = server

    def get(self, name: str) -> None:
        if name in ("edge", "nginx"):
            self.set_status(200 if name == "edge" and self._server.edge else 204)
            self.finish(self._server.edge if self.get_status() == 200 else None)
        elif name == "stack" and self.request.headers.get("X-Slowpool-Act") == "1":
            self._answer(*self._server.stack_answer)
        else:
            self.send_error(404)

    def post(self, name: str) -> None:
        if name != "act" or self.request.headers.get("X-Slowpool-Act") != "1":
            self.send_error(404)
            return
        self._server.acts.append(json.loads(self.request.body))
        self._answer(*self._server.act_answer)

    def _answer(self, status: int, answer: Json) -> None:
        self.set_status(status)
        self.finish(answer)


def content(**values: Any) -> Json:
    """The figures of two idle pools of two instances each."""
    ports = {"fast": (8001, 8002), "slow": (8101, 8102)}
    return {
        "time": time.time(),
        "step_seconds": STEP_SECONDS,
        "served_by": "fast:8001 at 10.0.0.2",
        "hints": [],
        "pools": {
            "fast": pool(),
            "slow": pool(workers=2, places=16, accepted={"done": 14, "waiting": 1}),
        },
        "instances": [instance(name, port) for name, two in ports.items() for port in two],
        "failed_jobs": [],
        "steps": {name: steps(60) for name in ports},
        **values,
    }


def pool(**values: Any) -> Json:
    empty = {"active": 0, "waiting": 0, "running": 0, "workers": 0, "accepted": {}, "places": 0}
    return {"instances": 2, "answering": 2, **empty, **step(), "requests": 1234, **values}


def instance(pool: str, port: int, **values: Any) -> Json:
    return {
        "name": f"{pool}:{port}",
        "address": "10.0.0.2",
        "pool": pool,
        "port": port,
        "error": "",
        "silent_seconds": 0.1,
        "lost_seconds": None,
        "state": "ready",
        "process_id": f"{port:016x}",
        "uptime_seconds": 4000.0,
        "active": 1,
        "waiting": 0,
        **step(),
        "running": [],
        "workers": 1 if pool == "slow" else 0,
        "worker_restarts": 0,
        "resident_bytes": 52 << 20,
        **values,
    }


def step(**values: Any) -> Json:
    quick = {"p50_seconds": 0.0005, "p99_seconds": 0.002, "lag_seconds": 0.001}
    return {"requests": 100, "errors": 0, "refused": 0, "waiting": 0, "running": 1, **quick, **values}


def steps(count: int, **values: Any) -> dict[int, Json]:
    """As many steps, the last of which has just begun."""
    last = step_number()
    return {number: step(**values) for number in range(last - count + 1, last + 1)}


def running(**values: Any) -> Json:
    """A job that runs."""
    return {
        "job": "00c0ffee00c0ffee",
        "task": "shop.pdf.draw",
        "route": "/reports/{}",
        "request_id": "fc3d0095341f1827972000370e6feaf3",
        "worker": 4711,
        "age_seconds": 6.0,
        "deadline_seconds": 18.0,
        "cpu_seconds": 5.5,
        "resident_bytes": 180 << 20,
        "accepted": False,
        "progress": 0.4,
        "message": "page 2",
        **values,
    }
