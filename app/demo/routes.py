"""The routes of the example application."""

import re
from pathlib import Path

from tornado.web import StaticFileHandler

from app.demo import tasks
from app.errors import BadArgument
from app.handlers import Handler, SlowHandler

STATIC = Path(__file__).parent / "static"


class IndexHandler(Handler):
    """A page that says what this is."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "index.html").read_bytes())


class FastHandler(Handler):
    """Answers at once."""

    def get(self) -> None:
        self.text(f"fast result {job_id(self)}")


class InlineHandler(SlowHandler):
    """Computes on the instance's own thread, which blocks it: the fault, on purpose."""

    def get(self) -> None:
        self.text(slow_result(self, tasks.factorials(size(self))))


class WorkerHandler(SlowHandler):
    """The same work in a worker process: the way to do it."""

    async def get(self) -> None:
        self.text(slow_result(self, await self.run(tasks.factorials, size(self))))


def job_id(handler: Handler) -> str:
    """The argument ``id``: 1 to 64 letters, digits, ``.``, ``_`` and ``-``."""
    value = handler.get_argument("id")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise BadArgument("id must be 1 to 64 letters, digits, '.', '_' or '-'")
    return value


def size(handler: Handler) -> int:
    """The argument ``n``: how much work there is to do."""
    job_id(handler)  # bad input is refused before the work, not after it
    return handler.integer("n", default=2000, minimum=1, maximum=20_000)


def slow_result(handler: Handler, seconds: float) -> str:
    """The answer of every slow route of the demo."""
    return f"slow result {job_id(handler)} <--- {seconds:.3f} s"


routes = [
    (r"/", IndexHandler),
    (r"/static/(.*)", StaticFileHandler, {"path": STATIC}),
    (r"/fast", FastHandler),
    (r"/slow", InlineHandler),
    (r"/slow_threaded", WorkerHandler),
]
