"""The routes of the example application."""

import re
from pathlib import Path

from tornado.web import StaticFileHandler

from app.demo import tasks
from app.demo.thumbnail import BadImage, ImageTooLarge, thumbnail
from app.errors import BadArgument, ContentTooLarge
from app.handlers import Handler, SlowHandler

STATIC = Path(__file__).parent / "static"
IMAGE_BYTES = 20 * 1024 * 1024


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


class ThumbnailHandler(SlowHandler):
    """``POST`` an image, get a JPEG thumbnail of at most ``size`` × ``size`` pixels."""

    async def post(self) -> None:
        pixels = self.integer("size", default=256, minimum=1, maximum=2048)
        if len(self.request.body) > IMAGE_BYTES:
            raise ContentTooLarge(f"an image may have {IMAGE_BYTES} bytes")
        try:
            jpeg = await self.run(thumbnail, self.request.body, pixels)
        except BadImage as error:
            raise BadArgument(str(error)) from error
        except (ImageTooLarge, MemoryError) as error:
            raise ContentTooLarge(str(error) or "the image takes more memory than there is") from error
        self.set_header("Content-Type", "image/jpeg")
        self.finish(jpeg)


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
    (r"/slow/thumbnail", ThumbnailHandler),
]
