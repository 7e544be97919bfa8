"""Tasks: plain functions that know nothing of Tornado and may block as long as they like."""

import math
import time


def factorials(n: int) -> float:
    """Compute ``k!`` for every k below n, and return the seconds that it took."""
    start = time.perf_counter()
    for k in range(n):
        math.factorial(k)
    return time.perf_counter() - start
