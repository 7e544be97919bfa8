"""Serves the zoo: ``/slow/zoo/TASK`` runs the task of that name."""

import threading

from slowpool.web import SlowHandler
from tests.apps import zoo


class ZooHandler(SlowHandler):
    async def get(self, task: str) -> None:
        self.text(str(await self.run(getattr(zoo, task))))

    async def post(self, task: str) -> None:
        self.finish(await self.run(getattr(zoo, task), self.request.body))


class ChildrenHandler(SlowHandler):
    async def get(self) -> None:
        task = getattr(zoo, self.get_argument("task", "spawns_children_and_threads"))
        await self.run(task, self.get_argument("file"))


class SayHandler(SlowHandler):
    async def get(self) -> None:
        await self.run(zoo.says, self.get_argument("text"))
        self.text("said")


class SleepHandler(SlowHandler):
    async def get(self) -> None:
        self.text(str(await self.run(zoo.sleep, float(self.get_argument("seconds")))))


class LockHandler(SlowHandler):
    async def get(self) -> None:
        await self.run(zoo.add, 1, threading.Lock())  # type: ignore[arg-type]  # on purpose


class CaughtHandler(SlowHandler):
    async def get(self) -> None:
        try:
            await self.run(zoo.raises, "mine")
        except ValueError as error:
            self.text(f"caught {error}")


routes = [
    (r"/slow/zoo/(\w+)", ZooHandler),
    (r"/slow/children", ChildrenHandler),
    (r"/slow/say", SayHandler),
    (r"/slow/sleep", SleepHandler),
    (r"/slow/lock", LockHandler),
    (r"/slow/caught", CaughtHandler),
]
