"""Plain: an application under plain Tornado, beside which slowpool is held."""

import os
import signal
import sys

from tests.support.basics import ROOT, free_ports
from tests.support.process import Process


class Plain(Process):
    """``python -m`` this module, with these arguments and a free ``--port``; up once entered."""

    def __init__(self, *module: str) -> None:
        self.port = free_ports()
        folders = [str(ROOT), str(ROOT / "app"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        super().__init__([sys.executable, "-m", *module, f"--port={self.port}"], ROOT, env)

    def wait_until_up(self) -> None:
        self.wait_for_output(": is up$")

    def check_end(self) -> None:
        self.signal(signal.SIGTERM)
        assert self.wait() == 0
