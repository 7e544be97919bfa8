"""Routes to be watched: one of the fast pool blocks its instance, and slow jobs end in every way."""

import time

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps import zoo


class ReportHandler(RequestHandler):
    """Belongs in the slow pool."""

    async def get(self, name: str) -> None:
        self.finish(build_report(name, float(self.get_argument("seconds", "0"))))


class ComputeHandler(RequestHandler):
    """Uses so many seconds of CPU."""

    def get(self) -> None:
        end = time.thread_time() + float(self.get_argument("seconds"))
        while time.thread_time() < end:
            pass
        self.finish("done")


class InlineReportHandler(RequestHandler):
    """Blocks its instance, which is of the slow pool."""

    def get(self) -> None:
        self.finish(build_report("inline", float(self.get_argument("seconds"))))


class TaskHandler(RequestHandler):
    """Runs a task of the zoo, or sleeps."""

    async def get(self, task: str) -> None:
        if task == "sleep":
            await slowpool.run(zoo.sleep, float(self.get_argument("seconds")))
        else:
            await slowpool.run(getattr(zoo, task))
        self.finish("done")


class SayHandler(RequestHandler):
    """Has a worker print a line."""

    async def get(self) -> None:
        await slowpool.run(zoo.says, self.get_argument("text"))
        self.finish("said")


def build_report(name: str, seconds: float) -> str:
    time.sleep(seconds)  # the guilty line
    return f"report {name}"


def make_app() -> Application:
    return Application(
        [
            (r"/report/(?P<name>\w+)", ReportHandler),
            (r"/stall/(?P<name>\w+)", ReportHandler),
            (r"/compute", ComputeHandler),
            (r"/slow/report", InlineReportHandler),
            (r"/slow/task/(\w+)", TaskHandler),
            (r"/slow/say", SayHandler),
        ]
    )
