"""Routes of ``tests.apps.anywhere``, and one whose answer is too large for a client that does not read."""

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps import anywhere

SIZE = 20_000_000


class LargeHandler(RequestHandler):
    """Answers more than nginx and the kernel buffer, with its job done."""

    async def get(self) -> None:
        await slowpool.run(anywhere.dumped, {})
        self.finish(b"x" * SIZE)


def make_app() -> Application:
    app = anywhere.make_app()
    app.add_handlers(".*", [(r"/slow/large", LargeHandler), (r"/slow(/.*)", anywhere.SeenHandler)])
    return app
