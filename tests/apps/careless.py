"""Handlers that put what a client sends into the log, in all the ways that Tornado and Python have."""

import logging
from pathlib import Path

from tornado.web import Application, HTTPError, RedirectHandler, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

import slowpool


class FailingHandler(RequestHandler):
    """Raises what it was not meant to, with the body of the request in it."""

    def get(self) -> None:
        raise ValueError(self.request.body.decode(errors="surrogateescape"))

    post = get


class RefusingHandler(RequestHandler):
    """Refuses, and says in the log which header it did not like."""

    def get(self) -> None:
        raise HTTPError(400, "no good: %s", self.request.headers.get("X-Header", ""))


class OddHandler(RequestHandler):
    """Refuses in a text that could be taken for a format."""

    def get(self) -> None:
        raise HTTPError(400, "100 %d and " + self.request.headers.get("X-Header", "").replace("%", "%%"))


class SayingHandler(RequestHandler):
    """Logs and prints nothing but the header and the body."""

    def post(self) -> None:
        text = self.request.body.decode(errors="surrogateescape")
        logging.getLogger("careless").info(
            "it said %s", text, extra={"header": text, "nested": [{"x": text}]}
        )
        self.finish("ok")


class FailingSocket(WebSocketHandler):
    """Fails at each message."""

    def check_origin(self, origin: str) -> bool:
        return True

    def on_message(self, message: str | bytes) -> None:
        raise ValueError(message)


def say(text: str) -> None:
    """A task that prints, and fails."""
    print(text, flush=True)
    raise ValueError(text)


class TaskHandler(RequestHandler):
    """Gives the header to a task."""

    async def get(self) -> None:
        await slowpool.run(say, self.request.headers.get("X-Header", ""))


def make_app() -> Application:
    return Application(
        [
            (r"/fail.*", FailingHandler),
            (r"/refuse.*", RefusingHandler),
            (r"/odd.*", OddHandler),
            (r"/say", SayingHandler),
            (r"/socket", FailingSocket),
            (r"/static/(.*)", StaticFileHandler, {"path": Path(__file__).parent}),
            (r"/from/(.*)", RedirectHandler, {"url": "/to/{0}"}),
            (r"/slow/task", TaskHandler),
        ]
    )
