"""The last ten minutes in steps."""

import json

import pytest
from pydantic import TypeAdapter

from slowpool.observe.counts import MOST_ROUTES, OTHER, RouteCounts
from slowpool.observe.history import (
    MINUTE_STEPS,
    MOST_BLOCKS,
    STEP_SECONDS,
    STEPS,
    History,
    Step,
    step_number,
    total,
)
from slowpool.observe.untrusted import MAX_TEXT


def test_requests_are_counted_in_the_step_in_which_they_end(clock: list[float]) -> None:
    past = History()
    past.add_request("/", 200, 0.1, {})
    past.add_request("/", 503, 0.001, {})  # a refusal has no part in the latency
    clock[0] += STEP_SECONDS
    past.add_sample(0, waiting=0, running=0)
    past.add_request("/", 500, 0.2, {})
    first, second = past.since(0).values()
    assert (first["requests"], first["refused"], first["errors"]) == (2, 1, 0)
    assert sum(first["latency"].values()) == 1
    assert (second["requests"], second["refused"], second["errors"]) == (1, 0, 1)


def test_what_is_older_than_ten_minutes_is_forgotten(clock: list[float]) -> None:
    past = History()
    for _ in range(2 * STEPS):
        past.add_sample(0, waiting=0, running=0)
        past.add_request("/", 200, 0.1, {})
        clock[0] += STEP_SECONDS
    assert len(past.since(0)) == STEPS
    assert len(past.since(step_number() - 3)) == 4


def test_steps_come_back_from_json_as_they_were(clock: list[float]) -> None:
    past = History()
    past.add_request("/", 200, 0.25, {})
    past.add_sample(0.5, waiting=3, running=2)
    past.add_block("/report", 1.5)
    (values,) = json.loads(json.dumps(past.since(0))).values()
    step = TypeAdapter(Step).validate_json(json.dumps(values))
    assert (step.requests, step.lag_seconds, step.waiting, step.running) == (1, 0.5, 3, 2)
    assert step.blocks == {"/report": 1.5}
    assert step.quantile(0.5) == pytest.approx(0.25, rel=0.25)


def test_a_step_keeps_the_longest_blocks(clock: list[float]) -> None:
    past = History()
    for number in range(1, 2 * MOST_BLOCKS + 1):
        for seconds in (float(number), 0.5):
            past.add_block(f"/{number}", seconds)
    assert past.now().blocks == {f"/{n}": float(n) for n in range(MOST_BLOCKS + 1, 2 * MOST_BLOCKS + 1)}


def test_a_route_has_its_own_counts_in_the_step_in_which_its_requests_end(clock: list[float]) -> None:
    past = History()
    first = step_number()
    past.add_request("/fast", 200, 0.001, {})
    past.add_request("/slow", 200, 2.0, {"queue_seconds": 0.5, "run_seconds": 1.25})
    past.add_request("/slow", 504, 3.0, {"queue_seconds": 1.0, "run_seconds": 2.0})
    past.since(0)  # somebody looks in the middle of it
    past.add_request("/slow", 503, 0.001, {})
    past.add_hand_over("/report")
    assert past.routes_since(0) == {}, "the step is not complete"
    clock[0] += STEP_SECONDS
    past.add_sample(0, waiting=0, running=0)
    past.add_request("/slow", 200, 1.0, {})
    (routes,) = past.routes_since(first).values()
    assert [routes["/fast"][name] for name in ("requests", "errors", "refused", "with_jobs")] == [1, 0, 0, 0]
    slow = TypeAdapter(RouteCounts).validate_python(routes["/slow"])
    assert (slow.requests, slow.errors, slow.refused, slow.with_jobs) == (3, 1, 1, 2)
    assert (slow.queue_seconds, slow.run_seconds) == (1.5, 3.25)
    assert sum(slow.latency.values()) == 2, "a refusal has no part in it"
    assert (routes["/report"]["requests"], routes["/report"]["handed_over"]) == (0, 1)
    assert past.since(first)[first]["requests"] == 4, "each request is counted once"
    assert past.routes_since(first + 1) == {}


def test_routes_are_kept_for_a_minute(clock: list[float]) -> None:
    past = History()
    for number in range(30):
        past.add_request(f"/{number}", 200, 0.1, {})
        clock[0] += STEP_SECONDS
        past.add_sample(0, waiting=0, running=0)
    steps = past.routes_since(0)
    assert [*steps] == [*range(step_number() - MINUTE_STEPS, step_number())]
    assert [*steps[step_number() - 1]] == ["/29"]


def test_more_routes_than_anybody_reads_are_counted_as_one(clock: list[float]) -> None:
    past = History()
    for _ in range(2):
        for number in range(2 * MOST_ROUTES):
            past.add_request(f"/{number}" + "x" * 300, 200, 0.1, {})
        past.since(0)
    clock[0] += STEP_SECONDS
    (routes,) = past.routes_since(0).values()
    assert len(routes) == MOST_ROUTES + 1
    assert routes[OTHER]["requests"] == 2 * MOST_ROUTES
    assert sum(counts["requests"] for counts in routes.values()) == 4 * MOST_ROUTES
    assert max(map(len, routes)) == MAX_TEXT


def test_quantiles_of_several_instances_are_those_of_all_their_requests(clock: list[float]) -> None:
    quick, slow = History(), History()
    for _ in range(98):
        quick.add_request("/", 200, 0.001, {})
    for _ in range(2):
        slow.add_request("/", 200, 1.0, {})
    quick.since(0)
    slow.since(0)
    both = total([quick.now(), slow.now()])
    assert both.requests == 100
    assert both.quantile(0.5) == pytest.approx(0.001, rel=0.25)
    assert both.quantile(0.98) == pytest.approx(0.001, rel=0.25)
    assert both.quantile(0.99) == pytest.approx(1.0, rel=0.25)
    assert Step().quantile(0.5) is None
