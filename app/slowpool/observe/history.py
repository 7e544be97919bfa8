"""The last ten minutes of an instance, in steps of a few seconds."""

import math
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field

from slowpool.observe.untrusted import MAX_TEXT, Count, Seconds, Text

STEP_SECONDS = 5
"""Steps begin at multiples of this by the clock, so the steps of several instances can be added."""

STEPS = 600 // STEP_SECONDS

FINEST_SECONDS = 0.0001
FACTOR = 1.25
"""Each bound of a latency bucket is the one below times this: quantiles are accurate to 25 %."""

BUCKETS = 150
"""The highest bound is some hundred years."""

_BOUNDS = [FINEST_SECONDS * FACTOR**bucket for bucket in range(BUCKETS - 1)]

Bucket = Annotated[int, Field(ge=0, lt=BUCKETS)]


@dataclass
class Step:
    """Counts of one step, and the maxima of gauges. pydantic validates the steps of other instances."""

    requests: Count = 0
    errors: Count = 0  # answered 500, 502 or 504
    refused: Count = 0  # answered 503
    lag_seconds: Seconds = 0
    waiting: Count = 0
    running: Count = 0
    latency: dict[Bucket, Count] = field(default_factory=dict)  # bucket -> requests
    blocks: dict[Text, Seconds] = field(default_factory=dict)  # route -> the longest, in seconds

    def add(self, other: "Step") -> None:
        """Add the step of another instance or time. ``waiting`` and ``running`` are added too."""
        self.requests += other.requests
        self.errors += other.errors
        self.refused += other.refused
        self.lag_seconds = max(self.lag_seconds, other.lag_seconds)
        self.waiting += other.waiting
        self.running += other.running
        for bucket, count in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + count
        for route, seconds in other.blocks.items():
            self.blocks[route] = max(seconds, self.blocks.get(route, 0))

    def quantile(self, fraction: float) -> float | None:
        """The latency in seconds that this fraction of the requests did not exceed; None without requests."""
        below, wanted = 0, math.ceil(fraction * sum(self.latency.values()))
        for bucket in sorted(self.latency):
            below += self.latency[bucket]
            if below >= wanted:
                return FINEST_SECONDS * FACTOR**bucket
        return None


class History:
    """The steps of one instance."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._current = self.now()

    def now(self) -> Step:
        """The current step."""
        number = step_number()
        step = self._steps.get(number)
        if step is None:
            step = self._steps[number] = Step()
            for old in [old for old in self._steps if old <= number - STEPS]:
                del self._steps[old]
        return step

    def add_request(self, status: int, seconds: float) -> None:
        """Count an answered request, in the step of the last sample: to read the clock takes too long."""
        step = self._current
        step.requests += 1
        if status == 503:
            step.refused += 1
            return  # refusals would make the latency look better than it is
        if status in (500, 502, 504):
            step.errors += 1
        bucket = bisect_left(_BOUNDS, seconds)
        step.latency[bucket] = step.latency.get(bucket, 0) + 1

    def add_sample(self, lag_seconds: float, waiting: int, running: int) -> None:
        """Note how late the event loop is, and how many jobs wait and run; 20 times a second."""
        step = self._current = self.now()
        step.lag_seconds = max(step.lag_seconds, lag_seconds)
        step.waiting = max(step.waiting, waiting)
        step.running = max(step.running, running)

    def add_block(self, route: str, seconds: float) -> None:
        """Note that a handler of this route blocked the loop."""
        blocks, route = self.now().blocks, route[:MAX_TEXT]
        blocks[route] = max(seconds, blocks.get(route, 0))

    def steps(self) -> dict[int, Step]:
        """All steps, by number."""
        return dict(self._steps)

    def since(self, number: int) -> dict[int, dict[str, Any]]:
        """The steps from this number on, as JSON."""
        return {at: asdict(step) for at, step in self._steps.items() if at >= number}


def step_number() -> int:
    """The number of the current step; equal on all machines with correct clocks."""
    return int(time.time()) // STEP_SECONDS


def total(steps: Iterable[Step]) -> Step:
    """The sum of the steps."""
    sum_of_all = Step()
    for step in steps:
        sum_of_all.add(step)
    return sum_of_all
