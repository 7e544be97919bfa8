"""The last ten minutes in steps."""

import json

import pytest
from pydantic import TypeAdapter

from slowpool.observe.history import STEP_SECONDS, STEPS, History, Step, step_number, total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, for the test to change."""
    now = [1_000_000.0]
    monkeypatch.setattr("slowpool.observe.history.time.time", lambda: now[0])
    return now


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
    assert len(past.since(step_number() - 3)) == 3


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
