"""Generator functions as tasks, and what else can be streamed."""

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from slowpool.workers.progress import progress
from tests.apps import forks, zoo


def rows(count: int) -> Iterator[int]:
    yield from range(count)


def rows_and_then_an_exception(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("after the last")


def rows_at_a_gate(path: str, count: int) -> Iterator[int]:
    """Each item only once the file ``path.N`` is there."""
    for number in range(count):
        while not os.path.exists(f"{path}.{number}"):
            time.sleep(0.001)
        yield number


def blocks(count: int, size: int) -> Iterator[bytes]:
    """Tells by ``progress`` how many it has yielded."""
    for number in range(count):
        yield number.to_bytes(8) + bytes(size - 8)
        progress(number + 1)


def one_that_cannot_be_pickled() -> Iterator[object]:
    yield 1
    yield zoo.returns_what_cannot_be_pickled()


def one_that_is_too_large(size: int) -> Iterator[bytes]:
    yield b"small"
    yield bytes(size)


def closes_with_a_note(path: str) -> Iterator[int]:
    """Makes the file when it is closed before its end."""
    try:
        yield from range(10)
        yield 1 // 0
    finally:
        Path(path).touch()


def ends_with_a_value() -> Generator[int, None, str]:
    yield 1
    return "nobody gets this"


def a_list() -> list[int]:
    return [1, 2, 3]


def no_iterable() -> int:
    return 3


def rows_and_a_fork(by: str) -> Iterator[str]:
    """A child that goes on with the generator."""
    yield "before"
    child = forks.FORKS[by]()
    if child:
        os.waitpid(child, 0)
    for number in range(3):
        yield f"{'parent' if child else 'child'} {number}"


def rows_for_ever() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def rows_and_hang() -> Iterator[int]:
    yield 0
    zoo.sleeps_for_ever()
