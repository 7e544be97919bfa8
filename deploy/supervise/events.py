"""Tell the instances of what the programs around them do; they keep it among the events of the status page.

``python -m deploy.supervise.events KIND TEXT`` does so for a program outside, in a container.
"""

import contextlib
import queue
import sys
import threading

from slowpool.config import Config
from slowpool.observe.news import tell

MOST_WAITING = 100
"""Events that wait to be told; more are dropped."""


class Teller:
    """Tells of events of the programs in one replica; ``replica`` is its name, empty in a local run."""

    def __init__(self, config: Config, replica: str) -> None:
        self._config = config
        self._replica = replica
        self._waiting: queue.Queue[tuple[str, str, str]] = queue.Queue(MOST_WAITING)
        threading.Thread(target=self._work, daemon=True).start()

    def now(self, kind: str, program: str, text: str) -> None:
        """Tell of an event of a program, such as ``fast:fast-8001``, or of none; takes seconds at most."""
        name = program.rpartition(":")[2].replace("-", ":")
        instance = ":".join(filter(None, [name, self._replica])) if name != "nginx" else name
        tell(self._config, kind, instance, text)

    def soon(self, kind: str, program: str, text: str) -> None:
        """The same in a thread, one event after the other."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((kind, program, text))

    def _work(self) -> None:
        while True:
            self.now(*self._waiting.get())


if __name__ == "__main__":
    tell(Config.load(), sys.argv[1], "", sys.argv[2])
