"""Tell the instances of what the programs around them do; they keep it among the events of the status page.

``python -m deploy.supervise.events KIND TEXT`` does so for a program outside, in a container.
"""

import contextlib
import queue
import sys
import threading

from slowpool.config import Config
from slowpool.observe.news import tell

NOW_SECONDS = 2.0
"""How long the caller waits for an event to be told."""

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
        """Tell of an event of a program, such as ``fast:fast-8001``, or of none, within NOW_SECONDS."""
        thread = threading.Thread(target=self._tell, args=(kind, program, text), daemon=True)
        thread.start()
        thread.join(NOW_SECONDS)

    def soon(self, kind: str, program: str, text: str) -> None:
        """The same without waiting, one event after the other."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((kind, program, text))

    def _work(self) -> None:
        while True:
            self._tell(*self._waiting.get())

    def _tell(self, kind: str, program: str, text: str) -> None:
        name = program.rpartition(":")[2].replace("-", ":")
        instance = ":".join(filter(None, [name, self._replica])) if name != "nginx" else name
        tell(self._config, kind, instance, text)


if __name__ == "__main__":
    tell(Config.load(), sys.argv[1], "", sys.argv[2])
