"""RecentRoutes: the routes of all instances in the last minute, as the page shows them."""

from collections.abc import Mapping
from typing import Any

from slowpool.config import Pool
from slowpool.observe.counts import RouteCounts, Routes, add_routes
from slowpool.observe.history import MINUTE_STEPS, step_number

NO_ROUTE = "(no route)"
"""Requests for paths that no handler has."""


class RecentRoutes:
    """Sums of the instances of each pool, by step."""

    def __init__(self) -> None:
        self._steps: dict[Pool, dict[int, Routes]] = {}

    def add(self, pool: Pool, steps: Mapping[int, Routes], after: int) -> int:
        """Add the steps of an instance with a higher number than ``after``; returns its last one.

        A step may be sent twice, when the clock of the instance is wrong.
        """
        ours = self._steps.setdefault(pool, {})
        for number, routes in sorted(steps.items()):
            if after < number <= step_number() + 1:
                add_routes(ours.setdefault(number, {}), routes)
                after = number
        return after

    def rows(self) -> list[dict[str, Any]]:
        """A row for each route of each pool, the one with the highest p99 first; times in seconds.

        Those of a pool are MOST_ROUTES and OTHER at most.
        """
        rows = []
        for pool, steps in self._steps.items():
            for number in [number for number in steps if number < step_number() - MINUTE_STEPS]:
                del steps[number]
            minute: Routes = {}
            for routes in steps.values():
                add_routes(minute, routes)
            rows += [_row(pool, route, counts) for route, counts in minute.items()]
        return sorted(rows, key=_slowest_first)


def _row(pool: Pool, route: str, counts: RouteCounts) -> dict[str, Any]:
    return {
        "route": route or NO_ROUTE,
        "pool": pool.value,
        "requests": counts.requests,
        "errors": counts.errors,
        "refused": counts.refused,
        "p50_seconds": counts.quantile(0.5),
        "p99_seconds": counts.quantile(0.99),
        "queue_seconds": counts.queue_seconds / counts.with_jobs if counts.with_jobs else None,
        "run_seconds": counts.run_seconds / counts.with_jobs if counts.with_jobs else None,
        "handed_over": counts.handed_over,
    }


def _slowest_first(row: dict[str, Any]) -> tuple[float, int, str]:
    return -(row["p99_seconds"] or 0), -row["requests"] - row["handed_over"], row["route"]
