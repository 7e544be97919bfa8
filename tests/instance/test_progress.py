"""How far a job is: to its handler, and in the report of its instance."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from slowpool.config import Pool
from tests.support.gate import Gate
from tests.support.process import Instance
from tests.support.report import report_of

TELLING = "tests.apps.telling:make_app"


@pytest.fixture(scope="module")
def slow() -> Iterator[Instance]:
    expected = "on_progress failed|^Traceback|ZeroDivisionError"
    with Instance(Pool.SLOW, APP=TELLING, SLOW_WORKERS=1, expected=expected) as instance:
        yield instance


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_handler_is_told_while_the_task_runs_and_the_last_step_before_the_result(
    slow: Instance, gate: Gate, kind: str
) -> None:
    answer = json.loads(slow.get(gate(f"/slow/told/{kind}")).text)
    assert answer == {"told": [[1, 4, "one"], [4, 4, "all"]], "result": "done"}


def test_a_function_that_raises_is_logged_and_not_called_again(slow: Instance, gate: Gate) -> None:
    answer = json.loads(slow.get(gate("/slow/told/raising")).text)
    assert answer == {"told": [[1, 4, "one"]], "result": "done"}
    slow.wait_for_output("on_progress failed, and is not called again for this job")


def test_the_report_has_each_running_job_with_its_progress(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(slow.get, gate("/slow/pages"))
    gate.wait_for(1)
    report = report_of(slow)
    (job,) = report["running"]
    assert job["task"] == "tests.apps.telling.pages"
    assert job["route"] == "/slow/pages"
    assert job["worker"] == gate.entered[0]
    assert job["progress"] == pytest.approx(1 / 3)
    assert job["message"] == "page 3 of 9"
    assert job["age_seconds"] > 0
    assert (report["workers"], report["template"], report["forks"]) == (1, slow.template.pid, True)
    gate.open()
    assert answer.result().text == "released"
    assert report_of(slow)["running"] == []


def test_workers_that_are_not_forked_are_said_to_be_started_afresh() -> None:
    expected = "each worker is started afresh, not forked from a warm process: SLOW_FORK=0"
    with Instance(Pool.SLOW, APP=TELLING, SLOW_WORKERS=3, SLOW_FORK=0, expected=expected) as instance:
        report = report_of(instance)
        assert (report["workers"], report["forks"]) == (3, False)
        assert instance.output.count(expected) == 1


def test_a_fast_instance_has_no_workers() -> None:
    with Instance(Pool.FAST, APP=TELLING) as instance:
        report = report_of(instance)
        assert (report["workers"], report["template"]) == (0, 0)
        assert instance.workers == []
