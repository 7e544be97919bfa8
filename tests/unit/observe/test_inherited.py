"""Steps that instances leave to another one."""

import json

import pytest
from pydantic import ValidationError

from slowpool.observe.counts import BUCKETS
from slowpool.observe.history import MOST_BLOCKS, STEPS, Step, step_number
from slowpool.observe.inherited import MOST_PROCESSES, Inherited
from slowpool.observe.peers import MAX_BYTES
from slowpool.observe.untrusted import MAX_TEXT
from slowpool.status import report

pytestmark = pytest.mark.usefixtures("clock")


def left_by(number: int, **steps: Step) -> Inherited:
    """What the process of this number leaves; ``now`` and ``before`` are its steps."""
    numbers = {"now": step_number(), "before": step_number() - 1, "old": step_number() - STEPS}
    return Inherited(
        processes={f"{number:016x}": step_number()},
        steps={numbers[name]: step for name, step in steps.items()},
    )


def test_what_several_leave_is_added_up() -> None:
    first = left_by(1, before=Step(requests=3, latency={4: 3}), now=Step(requests=1, blocks={"/a": 0.5}))
    second = left_by(2, now=Step(requests=2, errors=1, latency={4: 2}, blocks={"/a": 0.7, "/b": 0.1}))
    both = Inherited().plus(first).plus(second)
    assert list(both.processes) == ["0000000000000001", "0000000000000002"]
    assert [step.requests for step in both.steps.values()] == [3, 3]
    assert both.steps[step_number()].blocks == {"/a": 0.7, "/b": 0.1}
    assert sum(step.latency.get(4, 0) for step in both.steps.values()) == 5
    assert first.steps[step_number()].requests == 1, "it is not changed"


def test_what_comes_twice_counts_once() -> None:
    once = Inherited().plus(left_by(1, now=Step(requests=3)))
    assert once.plus(left_by(1, now=Step(requests=3))) is once


def test_what_is_older_than_ten_minutes_is_not_kept() -> None:
    kept = Inherited().plus(left_by(1, old=Step(requests=3), now=Step(requests=1)))
    assert [step.requests for step in kept.steps.values()] == [1]


def test_a_process_is_known_as_long_as_its_steps_are_kept_and_the_newest_the_longest() -> None:
    now, (first, second, third) = step_number(), (f"{number:016x}" for number in range(3))
    kept = Inherited(processes={first: now - STEPS, second: now - 1}).plus(Inherited(processes={third: now}))
    assert list(kept.processes) == [second, third]
    older = {f"{1000 + number:016x}": now - 9 for number in range(MOST_PROCESSES)}
    for both in kept.plus(Inherited(processes=older)), Inherited(processes=older).plus(kept):
        assert len(both.processes) == MOST_PROCESSES
        assert both.processes.keys() >= {second, third}


def test_a_sum_that_no_report_may_have_is_refused() -> None:
    much = Inherited().plus(left_by(1, now=Step(requests=10**12)))
    with pytest.raises(ValidationError):
        much.plus(left_by(2, now=Step(requests=1)))
    assert much.steps[step_number()].requests == 10**12


def test_however_many_leave_however_much_it_fits_into_a_report_and_into_what_is_left() -> None:
    kept = Inherited()
    numbers = range(step_number() - STEPS + 1, step_number() + 1)
    for number in range(2):
        blocks = {f"/{number}/{block}".ljust(MAX_TEXT, "x"): 1.25 + block for block in range(50)}
        latency = dict.fromkeys(range(BUCKETS), 123456)
        steps = {at: Step(123_456, 12, 12, latency, 0.123456, 8, 8, blocks) for at in numbers}
        kept = kept.plus(Inherited(processes={f"{number:016x}": numbers[-1]}, steps=steps))
    for first in (1000, 2000):
        processes = {f"{first + number:016x}": numbers[-1] for number in range(MOST_PROCESSES - 1)}
        kept = kept.plus(Inherited(processes=processes))
    assert len(kept.processes) == MOST_PROCESSES
    assert {len(step.blocks) for step in kept.steps.values()} == {MOST_BLOCKS}
    assert len(json.dumps(kept.model_dump())) < report.MAX_BYTES * 2 / 3
    assert len(kept.model_dump_json().encode()) < MAX_BYTES * 2 / 3
