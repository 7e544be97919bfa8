"""Routes with HTML in their names, which a page must show as text."""

import time

from tornado.web import Application, RequestHandler

import slowpool

MARKUP = "<img src=x onerror=\"document.title='owned'\">"


class BlockHandler(RequestHandler):
    """Blocks its instance for longer than the budget."""

    def get(self) -> None:
        time.sleep(0.8)


class TaskHandler(RequestHandler):
    """Takes a while in a worker."""

    async def get(self) -> None:
        await slowpool.run(time.sleep, 20)


def make_app() -> Application:
    return Application(
        [
            (f"/block{MARKUP}|/block", BlockHandler),
            (f"/slow{MARKUP}|/slow", TaskHandler),
        ]
    )
