"""An application of which a new release is broken: while there is a file ``$BROKEN``, the import fails,
after as many seconds as the file says."""

import os
import time
from pathlib import Path

from tornado.web import Application, RequestHandler


class OkHandler(RequestHandler):
    def get(self) -> None:
        self.finish(self.get_argument("id", "ok"))


broken = Path(os.environ["BROKEN"])
if broken.exists():
    time.sleep(float(broken.read_text()))
    raise RuntimeError("the new release is broken")


def make_app() -> Application:
    return Application([(r"/ok", OkHandler)])
