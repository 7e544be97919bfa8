"""The size of a report."""

import json

from slowpool.observe.counts import BUCKETS, MOST_ROUTES
from slowpool.observe.history import MINUTE_STEPS, STEPS
from slowpool.observe.untrusted import MAX_TEXT
from slowpool.status.report import MAX_BYTES, MOST_LEARNED, MOST_WAITING, Report
from slowpool.workers.failures import MOST_FAILURES
from tests.support.liars import failure, route, running_job, said, step, waiting_job


def test_the_report_of_a_busy_instance_with_the_longest_names_is_taken() -> None:
    text, latency = "x" * MAX_TEXT, {str(bucket): 10_000 for bucket in range(0, BUCKETS, 2)}
    names = dict.fromkeys(("task", "route", "request_id"), text)
    learned = {"route": text, "line": text, "blocked_seconds": 1.0, "left_seconds": 1.0}
    routes = {f"{number:0{MAX_TEXT}}": route(latency=latency) for number in range(MOST_ROUTES + 1)}
    busy = said(
        running=[running_job(**names, message=text)] * 256,
        waiting_jobs=[waiting_job(**names)] * MOST_WAITING,
        learned=[learned] * MOST_LEARNED,
        failures=[failure(**names, error=text)] * MOST_FAILURES,
        failed_jobs=[{"job": text, "route": text, "ended": 1.0, "error": text}] * 100,
        routes={str(number): routes for number in range(MINUTE_STEPS)},
        steps={str(number): step(latency=latency) for number in range(STEPS)},
    )
    answer = json.dumps(busy)
    Report.model_validate_json(answer)
    assert MAX_BYTES / 4 < len(answer) < MAX_BYTES
