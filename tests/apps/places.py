"""Tasks that are at a known place for a long time, and that tell their progress."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slowpool.workers.progress import progress
from tests.apps import forks, zoo


def computes() -> None:
    zoo.spins_for_ever()


def holds_the_lock() -> None:
    zoo.holds_the_interpreter_lock_for_ever()


def sleeps() -> None:
    zoo.sleeps_for_ever()


def yields_and_sleeps() -> Iterator[int]:
    yield 1
    zoo.sleeps_for_ever()


def recurses(depth: int) -> None:
    if depth:
        recurses(depth - 1)
    zoo.sleeps_for_ever()


def sleeps_and_reads(seconds: float, fifo: str) -> tuple[bool, bytes]:
    """Whether a sleep took its whole time, and what came from the named pipe."""
    start = time.monotonic()
    time.sleep(seconds)
    slept = time.monotonic() - start >= seconds
    fd = os.open(fifo, os.O_RDONLY)
    return slept, os.read(fd, 100)


def tells(steps: list[Any], path: str) -> None:
    """Tell each step, then wait for the file."""
    for step in steps:
        progress(*step)
    zoo.waits_for(path)


def tells_often(count: int) -> int:
    for number in range(count):
        progress(number + 1, count, f"row {number}")
    return count


def tells_from_threads(threads: int, count: int) -> int:
    """The message belongs to the values."""

    def tell(thread: int) -> None:
        for number in range(count):
            progress(number, thread + 1, f"{thread} {number}")

    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(tell, range(threads)))
    progress(count, count, "all")
    return threads


def tells_from_a_child(by: str) -> str:
    progress(1, 2, "the parent's")
    if child := forks.FORKS[by]():
        os.waitpid(child, 0)
        return "the parent's"
    progress(2, 2, "the child's")
    os._exit(0)
