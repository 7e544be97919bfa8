"""The last ten minutes of an instance, in steps of a few seconds."""

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slowpool.observe.counts import BOUNDS, Counts, Routes, add_routes, place
from slowpool.observe.untrusted import MAX_TEXT, Count, Seconds, Text

STEP_SECONDS = 5
"""Steps begin at multiples of this by the clock, so the steps of several instances can be added."""

STEPS = 600 // STEP_SECONDS

MINUTE_STEPS = 60 // STEP_SECONDS

MOST_BLOCKS = 10
"""The longest blocks that a step keeps."""


@dataclass(slots=True)
class Step(Counts):
    """Counts of one step, and the maxima of gauges."""

    lag_seconds: Seconds = 0
    waiting: Count = 0
    running: Count = 0
    blocks: dict[Text, Seconds] = field(default_factory=dict)  # route -> the longest, in seconds

    def add(self, other: "Step") -> None:
        """Add the step of another instance or time. ``waiting`` and ``running`` are added too."""
        self.count(other)
        self.lag_seconds = max(self.lag_seconds, other.lag_seconds)
        self.waiting += other.waiting
        self.running += other.running
        for route, seconds in other.blocks.items():
            self.blocks[route] = max(seconds, self.blocks.get(route, 0))


class History:
    """The steps of one instance, and the counts of its routes in the last minute."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._routes: dict[int, Routes] = {}  # of the steps of the last minute
        self._new: Routes = {}  # counted, but not yet in the current step
        self._number = step_number()
        self.now()

    def now(self) -> Step:
        """The current step, without the newest requests."""
        number = step_number()
        step = self._steps.get(number)
        if step is None or number != self._number:
            self._count()
            self._number = number
            step = self._steps.setdefault(number, Step())
            _forget(self._steps, number - STEPS)
            _forget(self._routes, number - MINUTE_STEPS - 1)  # the current one is not complete
        return step

    def add_request(self, route: str, status: int, seconds: float, job_seconds: Mapping[str, float]) -> None:
        """Count an answered request, in the step of the last sample: to read the clock takes too long.

        ``job_seconds`` are the ``queue_seconds`` and ``run_seconds`` of its jobs; empty without any.
        """
        # The step gets the sum of its routes at its end: a request is counted once.
        counts = self._new.get(route)
        if counts is None:
            counts = place(self._new, route)
        counts.requests += 1
        if status >= 500:
            if status == 503:
                counts.refused += 1
                return  # refusals would make the latency look better than it is
            if status in (500, 502, 504):
                counts.errors += 1
        bucket = bisect_left(BOUNDS, seconds)
        latency = counts.latency
        latency[bucket] = latency.get(bucket, 0) + 1
        if job_seconds:
            counts.with_jobs += 1
            counts.queue_seconds += job_seconds["queue_seconds"]
            counts.run_seconds += job_seconds["run_seconds"]

    def add_hand_over(self, route: str) -> None:
        """Count a request that the slow pool answers."""
        place(self._new, route).handed_over += 1

    def add_sample(self, lag_seconds: float, waiting: int, running: int) -> None:
        """Note how late the event loop is, and how many jobs wait and run; 20 times a second."""
        step = self.now()
        step.lag_seconds = max(step.lag_seconds, lag_seconds)
        step.waiting = max(step.waiting, waiting)
        step.running = max(step.running, running)

    def add_block(self, route: str, seconds: float) -> None:
        """Note that a handler of this route blocked the loop."""
        step, route = self.now(), route[:MAX_TEXT]
        step.blocks = longest({**step.blocks, route: max(seconds, step.blocks.get(route, 0))})

    def steps(self) -> dict[int, Step]:
        """All steps, by number."""
        self.now()
        self._count()
        return dict(self._steps)

    def since(self, number: int) -> dict[int, dict[str, Any]]:
        """The steps from this number on, as JSON."""
        self.now()
        self._count()
        return {at: step.as_json() for at, step in self._steps.items() if at >= number}

    def routes_since(self, number: int) -> dict[int, dict[str, dict[str, Any]]]:
        """The routes of the complete steps of the last minute, from this number on, as JSON."""
        self.now()
        return {
            at: {route[:MAX_TEXT]: counts.as_json() for route, counts in routes.items()}
            for at, routes in self._routes.items()
            if number <= at < self._number
        }

    def _count(self) -> None:
        """Add the new requests to the current step."""
        if not self._new:
            return
        step = self._steps[self._number]
        for counts in self._new.values():
            step.count(counts)
        add_routes(self._routes.setdefault(self._number, {}), self._new)
        self._new = {}


def _forget(steps: dict[int, Any], last: int) -> None:
    """Remove the steps up to this number."""
    for number in [number for number in steps if number <= last]:
        del steps[number]


def step_number() -> int:
    """The number of the current step; equal on all machines with correct clocks."""
    return int(time.time()) // STEP_SECONDS


def longest(blocks: Mapping[str, float]) -> dict[str, float]:
    """The MOST_BLOCKS longest of these."""
    return dict(sorted(blocks.items(), key=lambda block: -block[1])[:MOST_BLOCKS])


def total(steps: Iterable[Step]) -> Step:
    """The sum of the steps."""
    sum_of_all = Step()
    for step in steps:
        sum_of_all.add(step)
    return sum_of_all
