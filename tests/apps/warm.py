"""An application with a model that takes long to load. It notes in the folder of WARM_FOLDER who loads it.

With a file ``release`` in there it is loaded; until then loading waits.
"""

import os

from tornado.web import Application, RequestHandler

import slowpool
from tests.apps.controlled import wait


@slowpool.warm
def model() -> dict[str, int]:
    """What tasks need: the process that has loaded it."""
    wait(os.environ["WARM_FOLDER"])
    return {"loaded by": os.getpid()}


class PredictHandler(RequestHandler):
    async def get(self) -> None:
        loaded_by, parent, worker = await slowpool.run(predict)
        self.finish({"loaded by": loaded_by, "parent": parent, "worker": worker})


class WaitHandler(RequestHandler):
    async def get(self) -> None:
        self.finish(await slowpool.run(wait, self.get_argument("folder")))


def predict() -> tuple[int, int, int]:
    return model()["loaded by"], os.getppid(), os.getpid()


def make_app() -> Application:
    return Application([(r"/slow/predict", PredictHandler), (r"/slow/wait", WaitHandler)])
