"""Answers with long headers, and requests that kill whoever gets them: a request adds its process to the file
``entered`` of the folder that the argument ``folder`` names."""

import os
import signal

from slowpool.web import Handler, SlowHandler
from tests.apps.controlled import enter


class HeadersHandler(Handler):
    """An answer with a cookie of ``size`` bytes."""

    def get(self) -> None:
        enter(self.get_argument("folder"))
        self.set_header("Set-Cookie", "c=" + "x" * int(self.get_argument("size")))
        self.text("ok")


class SlowHeadersHandler(HeadersHandler, SlowHandler):
    """The same in the slow pool."""


class DyingHandler(Handler):
    """The instance ends while it has the request, whatever its method."""

    def prepare(self) -> None:
        enter(self.get_argument("folder"))
        os.kill(os.getpid(), signal.SIGKILL)


class SlowDyingHandler(DyingHandler, SlowHandler):
    """The same in the slow pool."""


class SeenHandler(Handler):
    """Says what has come."""

    def prepare(self) -> None:
        self.text(f"{self.request.method} {self.request.uri} {len(self.request.body)}")


class SlowSeenHandler(SeenHandler, SlowHandler):
    """The same in the slow pool."""


routes = [
    (r"/headers", HeadersHandler),
    (r"/slow/headers", SlowHeadersHandler),
    (r"/die", DyingHandler),
    (r"/slow/die", SlowDyingHandler),
    (r"/seen.*", SeenHandler),
    (r"/slow/seen.*", SlowSeenHandler),
]
