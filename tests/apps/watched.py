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
        burn(float(self.get_argument("seconds")))
        self.finish("done")


class InlineReportHandler(RequestHandler):
    """Blocks its instance, which is of the slow pool."""

    def get(self) -> None:
        self.finish(build_report("inline", float(self.get_argument("seconds"))))


class TaskHandler(RequestHandler):
    """Runs a task of the zoo, sleeps, or computes."""

    async def get(self, task: str) -> None:
        if task in ("sleep", "burn"):
            function = zoo.sleep if task == "sleep" else burn
            await slowpool.run(function, float(self.get_argument("seconds")))
        else:
            await slowpool.run(getattr(zoo, task))
        self.finish("done")


class SayHandler(RequestHandler):
    """Has a worker print a line."""

    async def get(self) -> None:
        await slowpool.run(zoo.says, self.get_argument("text"))
        self.finish("said")


def burn(seconds: float) -> None:
    """Use so many seconds of CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


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
