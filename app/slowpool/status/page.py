"""The status page and the metrics: the operator's routes, which nginx publishes on the admin port only."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import StaticFileHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from slowpool.observe.history import step_number
from slowpool.observe.inherited import Inherited
from slowpool.status.handlers import Handler, PageHandler, SystemApplication
from slowpool.status.overview import Overview
from slowpool.status.report import report

ASKED_PING_SECONDS = 60.0
"""On a connection on which each second a message comes, pings only find out who has gone without a word."""

STATIC = Path(__file__).parent / "static"


class MetricsHandler(Handler):
    """The metrics of this instance, for Prometheus."""

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.application.runtime.metrics.registry))


class InstanceHandler(WebSocketHandler):
    """Answers each message, the number of a step, with a report that has the history from there on.

    What other instances have left to this one is in the first report, and again when there is more, except in
    the answer to the number of a future step.
    """

    application: SystemApplication
    ping_interval = ASKED_PING_SECONDS
    _told: Inherited | None = None

    def on_message(self, message: str | bytes) -> None:
        if re.fullmatch("[0-9]{1,12}", str(message)):
            runtime, since = self.application.runtime, int(message)
            is_new = self._told is not runtime.inherited and since <= step_number()
            if is_new:
                self._told = runtime.inherited
            with contextlib.suppress(WebSocketClosedError):  # a drain has just closed it
                self.write_message(report(runtime, since, with_inherited=is_new))
        else:
            self.close(reason="not the number of a step")


class StatusHandler(PageHandler):
    """The page."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "status.html").read_bytes())


class LiveHandler(WebSocketHandler):
    """Sends the content of the page each second, over a WebSocket.

    Tornado refuses a WebSocket whose Origin is another host.
    """

    def initialize(self, overview: Overview) -> None:
        self._overview = overview

    def open(self, *args: str, **kwargs: str) -> None:
        self._sending = asyncio.create_task(self._send())

    def on_close(self) -> None:
        self._sending.cancel()

    async def _send(self) -> None:
        with contextlib.suppress(WebSocketClosedError):
            async with contextlib.aclosing(self._overview.watch()) as texts:
                async for text in texts:
                    await self.write_message(text)


class StaticHandler(PageHandler, StaticFileHandler):
    """The page's style and scripts. The browser asks each time whether they have changed."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")


def routes(overview: Overview) -> list[tuple[Any, ...]]:
    """The system routes of this room."""
    return [
        (r"/-/metrics", MetricsHandler),
        (r"/-/status", StatusHandler),
        (r"/-/status/live", LiveHandler, {"overview": overview}),
        (r"/-/status/instance", InstanceHandler),
        (r"/-/status/static/(.*)", StaticHandler, {"path": STATIC}),
    ]
