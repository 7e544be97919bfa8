"""The status page and the metrics: the operator's routes, which nginx publishes on the admin port alone."""

import asyncio
import contextlib
import re
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import StaticFileHandler
from tornado.websocket import WebSocketClosedError

from slowpool.status.overview import report
from slowpool.web.handlers import Handler, PageHandler, TrackedWebSocket

STATIC = Path(__file__).parent / "static"


class MetricsHandler(Handler):
    """The metrics of this instance, for Prometheus."""

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.application.metrics.registry))


class InstanceHandler(TrackedWebSocket):
    """Answers each message, the number of a step, with what this instance says of itself since then."""

    def on_message(self, message: str | bytes) -> None:
        if re.fullmatch("[0-9]{1,12}", str(message)):
            self.write_message(report(self.application, int(message)))
        else:
            self.close(reason="not the number of a step")


class StatusHandler(PageHandler):
    """The page."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "status.html").read_bytes())


class LiveHandler(TrackedWebSocket):
    """Tells the page each second what there is to see, over a WebSocket.

    Tornado refuses a WebSocket of a page from elsewhere: its Origin has to be the Host.
    """

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self._sending = asyncio.create_task(self._send())

    def on_close(self) -> None:
        self._sending.cancel()
        super().on_close()

    async def _send(self) -> None:
        with contextlib.suppress(WebSocketClosedError):
            async with contextlib.aclosing(self.application.overview.watch()) as texts:
                async for text in texts:
                    await self.write_message(text)


class StaticHandler(PageHandler, StaticFileHandler):
    """The page's style and scripts."""


routes = [
    (r"/metrics", MetricsHandler),
    (r"/status", StatusHandler),
    (r"/status/live", LiveHandler),
    (r"/status/instance", InstanceHandler),
    (r"/status/static/(.*)", StaticHandler, {"path": STATIC}),
]
