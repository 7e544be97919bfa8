"""What stays open or takes long: chat, events, streams, uploads and reports."""

import asyncio
import hashlib
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, stream_request_body
from tornado.websocket import WebSocketHandler

import slowpool
from tests.apps.team.api import Api


@dataclass
class Rooms:
    """The chat's state, in the memory of one process."""

    members: dict[str, set["ChatHandler"]] = field(default_factory=lambda: defaultdict(set))
    said: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Report:
    """A report that is made step by step, also in memory."""

    pages: int
    done: int = 0
    result: str = ""


class ChatHandler(WebSocketHandler):
    """Sends what one says to all in the room."""

    def get_compression_options(self) -> dict[str, Any]:
        return {}

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "chat.v2" if "chat.v2" in subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.room = kwargs["room"]
        self.rooms.members[self.room].add(self)

    async def on_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self.write_message(message[::-1], binary=True)
        elif message == "leave":
            self.close(4001, "you asked for it")
        else:
            self.rooms.said[self.room].append(message)
            for member in self.rooms.members[self.room]:
                await member.write_message(message)

    def on_close(self) -> None:
        self.rooms.members[self.room].discard(self)

    @property
    def rooms(self) -> Rooms:
        rooms: Rooms = self.application.rooms  # type: ignore[attr-defined]  # it is a Team
        return rooms


class HistoryHandler(Api):
    def get(self, room: str) -> None:
        self.write({"said": self.team.rooms.said[room]})


class EventsHandler(Api):
    """Server-sent events until the client goes."""

    gone = False

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        number = 0
        try:
            while not self.gone:
                self.write(f"id: {number}\ndata: event {number}\n\n")
                await self.flush()
                number += 1
                await asyncio.sleep(0.5)
        except StreamClosedError:
            pass

    def on_connection_close(self) -> None:
        self.gone = True
        self.audit("left")


class StreamHandler(Api):
    """A long answer in parts; nothing tells its length beforehand."""

    async def get(self) -> None:
        for number in range(int(self.get_argument("lines"))):
            self.write(f"line {number}\n")
            await self.flush()


@stream_request_body
class UploadHandler(Api):
    """A checksum of a body of any size, which is never in memory."""

    def prepare(self) -> None:
        connection: Any = self.request.connection
        connection.set_max_body_size(int(self.get_argument("largest", str(1 << 30))))
        self.digest, self.length, self.parts = hashlib.sha256(), 0, 0

    async def data_received(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.length += len(chunk)
        self.parts += 1

    def put(self) -> None:
        self.write({"sha256": self.digest.hexdigest(), "bytes": self.length, "in_parts": self.parts > 1})


class AttachmentsHandler(Api):
    def post(self) -> None:
        files = [
            {"field": name, "name": one.filename, "type": one.content_type, "bytes": len(one.body)}
            for name, found in self.request.files.items()
            for one in found
        ]
        self.write({"files": files, "title": self.get_body_argument("title")})


class ReportsHandler(Api):
    """Starts a report; its progress can be asked for."""

    def post(self) -> None:
        number = uuid.uuid4().hex
        report = Report(int(self.get_argument("pages")))
        self.team.reports[number] = report
        IOLoop.current().spawn_callback(self._make, report)
        self.set_status(202)
        self.set_header("Location", self.reverse_url("report", number))

    async def _make(self, report: Report) -> None:
        for page in range(report.pages):
            await IOLoop.current().run_in_executor(None, make_page, page)
            report.done += 1
        report.result = f"a report of {report.pages} pages"


class ReportHandler(Api):
    def get(self, number: str) -> None:
        try:
            report = self.team.reports[number]
        except KeyError:
            raise HTTPError(404) from None
        self.write({"done": report.done, "of": report.pages, "result": report.result})


class SummaryHandler(Api):
    """The one handler that knows slowpool."""

    async def get(self) -> None:
        self.write(await slowpool.run(summary, int(self.get_argument("pages"))))


def make_page(page: int) -> None:
    time.sleep(0.02)


def summary(pages: int) -> str:
    """Slow work: a plain function."""
    for page in range(pages):
        make_page(page)
    return f"a summary of {pages} pages"
