"""The size of a report, and when it has the routes."""

import pytest
from tornado.escape import json_encode

from slowpool.config import Config, Instance, Pool
from slowpool.instance import Runtime
from slowpool.observe.counts import BUCKETS, MOST_ROUTES
from slowpool.observe.history import MINUTE_STEPS, MOST_BLOCKS, STEP_SECONDS, STEPS, step_number
from slowpool.observe.inherited import MOST_PROCESSES
from slowpool.observe.untrusted import MAX_TEXT
from slowpool.status.report import MAX_BYTES, MOST_LEARNED, MOST_WAITING, Report, report
from slowpool.workers.failures import MOST_FAILURES
from tests.support.liars import failure, route, running_job, said, step, waiting_job


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀", "\x01"])
def test_the_report_of_a_busy_instance_with_the_longest_names_is_taken(letter: str) -> None:
    text, latency = letter * MAX_TEXT, {str(bucket): 10_000 for bucket in range(0, BUCKETS, 2)}
    names = dict.fromkeys(("task", "route", "request_id"), text)
    many = [f"{number}{text}"[:MAX_TEXT] for number in range(MOST_ROUTES + 1)]
    learned = {"route": text, "line": text, "blocked_seconds": 1.0, "left_seconds": 1.0}
    routes = dict.fromkeys(many, route(latency=latency))
    blocks = dict.fromkeys(many[:MOST_BLOCKS], 1.234567)
    steps = {str(number): step(latency=latency, blocks=blocks) for number in range(STEPS)}
    busy = said(
        running=[running_job(**names, message=text)] * 256,
        waiting_jobs=[waiting_job(**names)] * MOST_WAITING,
        learned=[learned] * MOST_LEARNED,
        failures=[failure(**names, error=text)] * MOST_FAILURES,
        failed_jobs=[{"job": text, "route": text, "ended": 1.0, "error": text}] * 100,
        routes={str(number): routes for number in range(MINUTE_STEPS)},
        steps=steps,
        inherited={"processes": {f"{n:016x}": n for n in range(MOST_PROCESSES)}, "steps": steps},
    )
    answer = json_encode(busy)
    Report.model_validate_json(answer)
    assert MAX_BYTES / 8 < len(answer) < MAX_BYTES


@pytest.mark.parametrize("readings", range(1, 12))
def test_the_routes_of_a_step_that_ends_while_a_report_is_made_are_in_that_or_the_next(
    monkeypatch: pytest.MonkeyPatch, readings: int
) -> None:
    now, left = 1_000_000.0, iter([0])

    def clock() -> float:
        """The time of day, which goes on by a step at one of its readings."""
        nonlocal now
        now += STEP_SECONDS * next(left, 0)
        return now

    monkeypatch.setattr("slowpool.observe.history.time.time", clock)
    runtime = Runtime(Config(), Instance(Pool.FAST, 8001))
    runtime.metrics.history.add_request("/a", 200, 0.1, {})
    since = first = step_number()
    left = iter([*[0] * (readings - 1), 1])
    found = set()
    for _ in range(3):
        answer = report(runtime, since)
        found |= answer["routes"].keys()
        since = max(answer["steps"])
        now += STEP_SECONDS
    assert first in found
