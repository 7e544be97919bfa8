"""Tasks: plain functions that know nothing of Tornado and may block as long as they like."""

import math
import time
from collections.abc import Iterator

import slowpool


def factorials(n: int) -> float:
    """Compute ``k!`` for every k below n, and return the seconds that it took."""
    start = time.perf_counter()
    for k in range(n):
        math.factorial(k)
    return time.perf_counter() - start


def report(rows: int, n: int) -> Iterator[str]:
    """The rows of a report, each with the work of ``factorials(n)``; tells how many there are already."""
    for row in range(rows):
        slowpool.progress(row, rows, f"row {row + 1} of {rows}")
        yield f"row {row + 1} of {rows} <--- {factorials(n):.3f} s\n"
