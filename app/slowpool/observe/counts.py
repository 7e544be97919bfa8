"""Counts: how many requests were answered, how, and how quickly."""

import math
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Self

from pydantic import Field

from slowpool.observe.untrusted import Count, Seconds

FINEST_SECONDS = 0.0001
FACTOR = 1.25
"""Each bound of a latency bucket is the one below times this: quantiles are accurate to 25 %."""

BUCKETS = 150
"""The highest bound is some hundred years."""

BOUNDS = [FINEST_SECONDS * FACTOR**bucket for bucket in range(BUCKETS - 1)]

Bucket = Annotated[int, Field(ge=0, lt=BUCKETS)]


@dataclass(slots=True)
class Counts:
    """Requests by their outcome. pydantic validates those of other instances."""

    requests: Count = 0
    errors: Count = 0  # answered 500, 502 or 504
    refused: Count = 0  # answered 503; they have no latency
    latency: dict[Bucket, Count] = field(default_factory=dict)  # bucket -> requests

    def count(self, other: "Counts") -> None:
        """Add the requests of another time, route or instance."""
        self.requests += other.requests
        self.errors += other.errors
        self.refused += other.refused
        for bucket, count in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + count

    def as_json(self) -> dict[str, Any]:
        """Its values by their names, for JSON: no copies."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def quantile(self, fraction: float) -> float | None:
        """The latency in seconds that this fraction of the requests did not exceed; None without requests."""
        below, wanted = 0, math.ceil(fraction * sum(self.latency.values()))
        for bucket in sorted(self.latency):
            below += self.latency[bucket]
            if below >= wanted:
                return FINEST_SECONDS * FACTOR**bucket
        return None


@dataclass(slots=True)
class RouteCounts(Counts):
    """The requests of one route; queue and run time are sums over those that have run jobs."""

    handed_over: Count = 0  # to the slow pool, which counts the request
    with_jobs: Count = 0
    queue_seconds: Seconds = 0
    run_seconds: Seconds = 0

    def add(self, other: Self) -> None:
        """Add those of another time or instance."""
        self.count(other)
        self.handed_over += other.handed_over
        self.with_jobs += other.with_jobs
        self.queue_seconds += other.queue_seconds
        self.run_seconds += other.run_seconds


Routes = dict[str, RouteCounts]
"""The counts of each route."""

MOST_ROUTES = 100

OTHER = "other"
"""The routes beyond MOST_ROUTES."""


def place(routes: Routes, route: str) -> RouteCounts:
    """The counts of a route among these, which are MOST_ROUTES and OTHER at most."""
    found = routes.get(route)
    if found is None:
        found = routes.setdefault(route if len(routes) < MOST_ROUTES else OTHER, RouteCounts())
    return found


def add_routes(routes: Routes, others: Routes) -> None:
    """Add the counts of these routes of another time or instance."""
    for route, counts in others.items():
        place(routes, route).add(counts)
