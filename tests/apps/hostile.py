"""Routes with HTML in their names, which a page must show as text."""

import time

from slowpool.web import Handler, SlowHandler

MARKUP = "<img src=x onerror=\"document.title='owned'\">"


class BlockHandler(Handler):
    """Blocks its instance for longer than the budget."""

    def get(self) -> None:
        time.sleep(0.8)


class TaskHandler(SlowHandler):
    """Takes a while in a worker."""

    async def get(self) -> None:
        await self.run(time.sleep, 20)


routes = [
    (f"/block{MARKUP}|/block", BlockHandler),
    (f"/slow{MARKUP}|/slow", TaskHandler),
]
