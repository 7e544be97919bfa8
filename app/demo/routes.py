"""The routes of the example application."""

from pathlib import Path
from typing import Any

from tornado.web import StaticFileHandler

import slowpool
from demo import strategies
from demo.handlers import DemoHandler, PageHandler
from demo.image_header import BadImage
from demo.openapi import DESCRIPTION
from demo.plain import FAST, LANES, SLOW, comparison
from demo.tasks import report
from demo.thumbnail import ImageTooLarge, thumbnail
from slowpool.config import Config, supervised_dir
from slowpool.errors import BadArgument, ContentTooLarge
from slowpool.status.deployment import Kind, kind_of

STATIC = Path(__file__).parent / "static"
IMAGE_BYTES = 20 * 1024 * 1024


class IndexHandler(PageHandler):
    """A page that explains the demo, with the requests that it sends as in ``comparison``."""

    def get(self) -> None:
        status_page = self.settings["status_page"]
        self.render("index.html", slow=SLOW, fast=FAST, lanes=LANES, **status_page)


class OpenApiHandler(DemoHandler):
    """The description of these routes."""

    def get(self) -> None:
        self.finish(DESCRIPTION)


class FastHandler(DemoHandler):
    """Answers at once."""

    def get(self) -> None:
        self.text(f"fast result {self.result_id()}")


class ReportHandler(DemoHandler):
    """A report that comes as one answer, or with ``stream=1`` row by row.

    Nothing here is for ``Prefer: respond-async``, with which the client fetches the answer later.
    """

    async def get(self) -> None:
        rows = self.integer("rows", default=20, minimum=1, maximum=100)
        n = self.integer("n", default=2000, minimum=1, maximum=20_000)
        streamed = self.integer("stream", default=0, minimum=0, maximum=1)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        async for row in slowpool.stream(report, rows, n):
            self.write(row)
            if streamed:
                await self.flush()


class PlainHandler(DemoHandler):
    """What happens without slowpool, line by line: see ``comparison``.

    The process that it starts is part of a job: the pool bounds how many there are, and for how long.
    """

    async def get(self) -> None:
        n = self.integer("n", default=2000, minimum=1, maximum=20_000)
        self.set_header("Content-Type", "application/x-ndjson")
        async for line in slowpool.stream(comparison, n):
            self.write(line)
            await self.flush()


class StaticHandler(PageHandler, StaticFileHandler):
    """The page's style and scripts."""


class ThumbnailHandler(DemoHandler):
    """``POST`` an image, get a JPEG thumbnail of at most ``size`` × ``size`` pixels."""

    async def post(self) -> None:
        pixels = self.integer("size", default=256, minimum=1, maximum=2048)
        if len(self.request.body) > IMAGE_BYTES:
            raise ContentTooLarge(f"the image has more than {IMAGE_BYTES // 2**20} MiB, which is the limit")
        try:
            jpeg = await slowpool.run(thumbnail, self.request.body, pixels)
        except BadImage as error:
            raise BadArgument(str(error)) from error
        except (ImageTooLarge, MemoryError) as error:
            raise ContentTooLarge(str(error) or "the image takes more memory than there is") from error
        self.set_header("Content-Type", "image/jpeg")
        self.finish(jpeg)


def status_page() -> dict[str, Any]:
    """Where the status page is: on ``admin_port`` of the machine that publishes the demo, if ``has_nginx``.

    The port is None where it is published nowhere: with Swarm and in Kubernetes.
    """
    config = Config.load()
    is_published = kind_of(config) in (Kind.LOCAL, Kind.COMPOSE)
    return {
        "has_nginx": supervised_dir() is not None,  # an instance that is started by hand has none
        "admin_port": config.admin_port if is_published else None,
    }


routes: list[tuple[Any, ...]] = [
    (r"/", IndexHandler),
    (r"/static/(\w+\.\w+)", StaticHandler, {"path": STATIC}),
    (r"/openapi.json", OpenApiHandler),
    (r"/fast", FastHandler),
    (r"/report/rows", ReportHandler),
    (r"/plain", PlainHandler),
    (r"/slow/thumbnail", ThumbnailHandler),
    *strategies.routes,
]
