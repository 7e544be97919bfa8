"""Serves the zoo: ``/slow/zoo/TASK`` runs the task of that name."""

import threading

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps import zoo


class ZooHandler(RequestHandler):
    async def get(self, task: str) -> None:
        self.finish(str(await slowpool.run(getattr(zoo, task))))

    async def post(self, task: str) -> None:
        self.finish(await slowpool.run(getattr(zoo, task), self.request.body))


class ChildrenHandler(RequestHandler):
    async def get(self) -> None:
        task = getattr(zoo, self.get_argument("task", "spawns_children_and_threads"))
        await slowpool.run(task, self.get_argument("file"))


class SayHandler(RequestHandler):
    async def get(self) -> None:
        await slowpool.run(zoo.says, self.get_argument("text"))
        self.finish("said")


class SleepHandler(RequestHandler):
    async def get(self) -> None:
        self.finish(str(await slowpool.run(zoo.sleep, float(self.get_argument("seconds")))))


class LockHandler(RequestHandler):
    async def get(self) -> None:
        await slowpool.run(zoo.add, 1, threading.Lock())  # type: ignore[call-overload]  # on purpose


class CaughtHandler(RequestHandler):
    async def get(self) -> None:
        try:
            await slowpool.run(zoo.raises, "mine")
        except ValueError as error:
            self.finish(f"caught {error}")


def make_app() -> Application:
    return Application(
        [
            (r"/slow/zoo/(\w+)", ZooHandler),
            (r"/slow/children", ChildrenHandler),
            (r"/slow/say", SayHandler),
            (r"/slow/sleep", SleepHandler),
            (r"/slow/lock", LockHandler),
            (r"/slow/caught", CaughtHandler),
        ]
    )
