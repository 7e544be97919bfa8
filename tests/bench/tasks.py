"""Tasks that the benchmark of the slow pool runs."""

import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import slowpool


def progress_seconds(count: int) -> float:
    """How long one call of progress() takes, of so many."""
    start = time.perf_counter()
    for number in range(count):
        slowpool.progress(number, count, "rows")
    return (time.perf_counter() - start) / count


def items(count: int, size: int) -> Iterator[bytes]:
    """So many items of so many bytes."""
    for _ in range(count):
        yield bytes(size)


def send_items(writer: Connection, count: int, size: int) -> None:
    """Send an item as a sign that the process runs, then those of ``items``."""
    writer.send(b"")
    for item in items(count, size):
        writer.send(item)
