"""Tasks that look at what their worker had from its start."""

import os
import random
import sys


def origin() -> tuple[int, int, bool]:
    """Pid of the worker, of its parent, and whether the application had been imported before."""
    loaded = "tests.apps.warmed" in sys.modules
    return os.getpid(), os.getppid(), loaded


def uses_the_model() -> tuple[int, int]:
    """Length of what warming up has loaded, and the worker's pid."""
    from tests.apps import warmed

    return len(warmed.model()), os.getpid()


def address_of_the_model() -> int:
    """The same in all processes that share it."""
    from tests.apps import warmed

    return id(warmed.model())


def private_bytes_of_the_model() -> int:
    """How much of the memory of a forked worker is its own after it has read the model."""
    from tests.apps import warmed

    for _ in warmed.model():
        pass
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private"))


def random_number() -> float:
    return random.random()
