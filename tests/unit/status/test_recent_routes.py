"""The routes of all instances in the last minute."""

import pytest

from slowpool.config import Pool
from slowpool.observe.counts import MOST_ROUTES, OTHER, RouteCounts
from slowpool.observe.history import MINUTE_STEPS, STEP_SECONDS, step_number
from slowpool.status.recent_routes import NO_ROUTE, RecentRoutes


def counts(*latency: int, **values: float) -> RouteCounts:
    """Requests in these latency buckets."""
    return RouteCounts(len(latency), latency=dict.fromkeys(latency, 1), **values)  # type: ignore[arg-type]


def test_a_route_has_a_row_for_each_pool_with_the_sums_of_all_instances() -> None:
    recent, last = RecentRoutes(), step_number() - 1
    recent.add(Pool.FAST, {last: {"/report": RouteCounts(handed_over=3)}}, 0)
    for number in (last - 1, last):
        jobs = counts(30, with_jobs=1, queue_seconds=0.5, run_seconds=2.0)
        recent.add(Pool.SLOW, {number: {"/report": jobs}}, 0)
    recent.add(Pool.SLOW, {last: {"/report": counts(40, errors=1, refused=2)}}, 0)
    slow, fast = recent.rows()
    assert {name: value for name, value in slow.items() if not name.startswith("p")} == {
        "route": "/report",
        "requests": 3,
        "errors": 1,
        "refused": 2,
        "queue_seconds": 0.5,
        "run_seconds": 2.0,
        "handed_over": 0,
    }
    assert (slow["pool"], fast["pool"]) == ("slow", "fast")
    assert 0 < slow["p50_seconds"] < slow["p99_seconds"]
    assert (fast["requests"], fast["handed_over"], fast["p99_seconds"]) == (0, 3, None)
    assert (fast["queue_seconds"], fast["run_seconds"]) == (None, None)


def test_the_slowest_routes_come_first_and_none_is_left_out() -> None:
    recent = RecentRoutes()
    routes = {f"/{bucket}": counts(bucket) for bucket in range(MOST_ROUTES - 1)}
    recent.add(Pool.FAST, {step_number() - 1: {**routes, "": counts(120)}}, 0)
    recent.add(Pool.FAST, {step_number() - 1: {"/one more": counts(130, 140)}}, 0)
    rows = recent.rows()
    assert [row["route"] for row in rows[:3]] == [OTHER, NO_ROUTE, f"/{MOST_ROUTES - 2}"]
    assert {row["route"] for row in rows} == {OTHER, NO_ROUTE, *routes}


def test_a_step_that_comes_twice_is_counted_once() -> None:
    recent, last = RecentRoutes(), step_number() - 1
    steps = {last - 1: {"/": counts(1)}, last: {"/": counts(2)}}
    until = recent.add(Pool.FAST, steps, 0)
    assert until == last
    assert recent.add(Pool.FAST, steps, until) == last
    assert recent.rows()[0]["requests"] == 2


def test_what_is_older_than_a_minute_or_of_the_future_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr("slowpool.observe.history.time.time", lambda: now[0])
    recent = RecentRoutes()
    recent.add(Pool.FAST, {step_number() - 1: {"/": counts(1)}, step_number() + 2: {"/": counts(1)}}, 0)
    for _ in range(MINUTE_STEPS):
        assert [row["requests"] for row in recent.rows()] == [1]
        now[0] += STEP_SECONDS
    assert recent.rows() == []
