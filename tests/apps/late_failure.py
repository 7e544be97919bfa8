"""An application that can be imported when it is checked, and not in an instance, where it takes its time."""

import os
import time

from tornado.web import Application

if "SUPERVISOR_ENABLED" in os.environ:
    time.sleep(1.5)  # longer than supervisor watches a start
    raise RuntimeError("the model is missing")


def make_app() -> Application:
    return Application()
