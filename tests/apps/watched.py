"""Routes to be watched: one of the fast pool blocks its instance, and slow jobs end in every way."""

import time

from slowpool.web import Handler, SlowHandler
from tests.apps import zoo


class ReportHandler(Handler):
    """Belongs in the slow pool."""

    async def get(self, name: str) -> None:
        self.text(build_report(name, float(self.get_argument("seconds", "0"))))


class InlineReportHandler(SlowHandler):
    """Blocks its instance, which is of the slow pool."""

    def get(self) -> None:
        self.text(build_report("inline", float(self.get_argument("seconds"))))


class TaskHandler(SlowHandler):
    """Runs a task of the zoo, or sleeps."""

    async def get(self, task: str) -> None:
        if task == "sleep":
            await self.run(zoo.sleep, float(self.get_argument("seconds")))
        else:
            await self.run(getattr(zoo, task))
        self.text("done")


class SayHandler(SlowHandler):
    """Has a worker print a line."""

    async def get(self) -> None:
        await self.run(zoo.says, self.get_argument("text"))
        self.text("said")


def build_report(name: str, seconds: float) -> str:
    time.sleep(seconds)  # the guilty line
    return f"report {name}"


routes = [
    (r"/report/(?P<name>\w+)", ReportHandler),
    (r"/slow/report", InlineReportHandler),
    (r"/slow/task/(\w+)", TaskHandler),
    (r"/slow/say", SayHandler),
]
