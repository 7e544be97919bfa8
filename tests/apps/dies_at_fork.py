"""Its template kills itself just after a fork: after its first, the next one after its second, and so on.

It does so while the folder DIES_AT_FORK is there, in which it keeps which have been.
"""

import os
import signal
from pathlib import Path

import slowpool

FORKS = 3

_forks = 0


@slowpool.warm
def model() -> None:
    os.register_at_fork(after_in_parent=_die)


def _die() -> None:
    global _forks
    _forks += 1
    folder = Path(os.environ["DIES_AT_FORK"])
    died = folder / str(_forks)
    if folder.exists() and _forks <= FORKS and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
