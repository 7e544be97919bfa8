"""Jobs that sleep for a given time and use no CPU."""

import time

from tornado.web import Application, RequestHandler

import slowpool


class SleepHandler(RequestHandler):
    async def get(self) -> None:
        await slowpool.run(time.sleep, float(self.get_argument("seconds")))
        self.finish("slept")


def make_app() -> Application:
    return Application([(r"/slow/sleep", SleepHandler)])
