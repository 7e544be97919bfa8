"""How the jobs of a request end: with it, and with the time that they have really run."""

import re
from collections.abc import Iterator

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request, unanswered
from tests.support.gate import Gate
from tests.support.metrics import value
from tests.support.pool import is_dead
from tests.support.process import Instance

ROWS = "tests.apps.rows:make_app"
ZOO = "tests.apps.misbehaving:make_app"


@pytest.fixture
def slow() -> Iterator[Instance]:
    expected = "whose job is late|Uncaught exception|^Traceback|ValueError|WorkerTraceback| 50[04] "
    with Instance(Pool.SLOW, APP=ROWS, SLOW_WORKERS=2, expected=expected) as instance:
        yield instance


def run_seconds(response: Response) -> float:
    """What Server-Timing says of the run."""
    (found,) = re.findall(r"run;dur=([0-9.]+)", response.headers["Server-Timing"])
    return float(found) / 1000


def test_when_one_of_two_jobs_at_once_fails_the_other_ends_with_the_request(
    slow: Instance, gate: Gate
) -> None:
    assert slow.get(gate("/slow/sibling")).status == 500
    slow.wait_for_output("ValueError: one of two")
    (worker,) = gate.entered
    wait_until(lambda: is_dead(worker))
    wait_until(lambda: value(slow, "slow_jobs_running") == 0)
    gate.open()
    assert slow.get("/slow/breaks?catch=1").status == 200


def test_the_times_of_a_job_that_its_deadline_cuts_off_are_true() -> None:
    with Instance(Pool.SLOW, APP=ZOO, SLOW_WORKERS=1, expected="whose job is late") as instance:
        late = request(instance.port, "/slow/zoo/sleeps_for_ever", headers={"Prefer": "wait=1"})
        assert late.status == 504
        assert run_seconds(late) > 0.5
        assert value(instance, "slow_job_run_seconds_sum") > 0.5
        assert value(instance, "slow_job_run_seconds_count") == 1


def test_the_times_of_a_job_whose_client_has_gone_are_true(slow: Instance, gate: Gate) -> None:
    with unanswered(slow.port, gate("/slow/rows")):
        gate.wait_for(1)
        # Another job takes its time meanwhile.
        late = request(slow.port, gate("/slow/rows"), headers={"Prefer": "wait=1"})
        assert late.status == 504
    wait_until(lambda: value(slow, "slow_job_run_seconds_count") == 2)
    assert value(slow, "slow_job_run_seconds_sum") > run_seconds(late) + 0.5
