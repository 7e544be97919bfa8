"""Steps: the steps of one process that were received, and their figures."""

from collections.abc import Mapping
from typing import Any

from slowpool.observe.history import MINUTE_STEPS, STEPS, Step, step_number, total

Json = dict[str, Any]


class Steps:
    """The steps of ten minutes, by number; only the newest one may change."""

    def __init__(self, steps: Mapping[int, Step] | None = None) -> None:
        self.by_number: dict[int, Step] = {}
        self._older = Step()
        self._older_of = (0, 0)
        self.update(steps or {})

    def update(self, steps: Mapping[int, Step]) -> None:
        """Add these, and forget those that are too old."""
        last = step_number() + 1  # the other's clock may be a little ahead
        known = {**self.by_number, **steps}
        self.by_number = {number: step for number, step in known.items() if last - STEPS < number <= last}

    def minute(self) -> Step:
        """The sum of the last minute's steps; of all but the newest it is kept."""
        first, newest = step_number() - MINUTE_STEPS, max(self.by_number, default=0)
        if self._older_of != (first, newest):
            self._older_of = (first, newest)
            self._older = total(step for number, step in self.by_number.items() if first < number < newest)
        return total([self._older, *([self.by_number[newest]] if newest > first else [])])


def figures(step: Step) -> Json:
    """The sums of a time, and its quantiles, as JSON for the page."""
    return {
        "requests": step.requests,
        "errors": step.errors,
        "refused": step.refused,
        "p50_seconds": step.quantile(0.5),
        "p99_seconds": step.quantile(0.99),
        "lag_seconds": step.lag_seconds,
    }
