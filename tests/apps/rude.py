"""An application whose import does what no import should. Only a template may import it."""

import os
import signal
import sys
import time


class _Sink:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


def make_app() -> None: ...


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if not os.fork():  # it has all that its parent has open
    time.sleep(3600)
    os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
sys.stdout = sys.stderr = _Sink()
