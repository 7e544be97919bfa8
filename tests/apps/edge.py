"""Answers with long headers, and requests that kill whoever gets them: a request adds its process to the file
``entered`` of the folder that the argument ``folder`` names."""

import os
import signal

from tornado.web import Application, RequestHandler

from tests.apps.controlled import enter


class HeadersHandler(RequestHandler):
    """An answer with a cookie of ``size`` bytes."""

    def get(self) -> None:
        enter(self.get_argument("folder"))
        self.set_header("Set-Cookie", "c=" + "x" * int(self.get_argument("size")))
        self.finish("ok")


class DyingHandler(RequestHandler):
    """The instance ends while it has the request, whatever its method."""

    def prepare(self) -> None:
        enter(self.get_argument("folder"))
        os.kill(os.getpid(), signal.SIGKILL)


class SeenHandler(RequestHandler):
    """Says what has come."""

    def prepare(self) -> None:
        self.finish(f"{self.request.method} {self.request.uri} {len(self.request.body)}")


def make_app() -> Application:
    return Application(
        [
            (r"/headers", HeadersHandler),
            (r"/slow/headers", HeadersHandler),
            (r"/die", DyingHandler),
            (r"/slow/die", DyingHandler),
            (r"/seen.*", SeenHandler),
            (r"/slow/seen.*", SeenHandler),
        ]
    )
