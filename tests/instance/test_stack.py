"""Where a job is: its stack, asked for while it runs and logged at its deadline."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request, unanswered
from tests.support.gate import Gate
from tests.support.process import Instance
from tests.support.report import report_of

TELLING = "tests.apps.telling:make_app"
ZOO = "tests.apps.misbehaving:make_app"


@pytest.fixture(scope="module")
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP=TELLING, SLOW_WORKERS=1) as instance:
        yield instance


@contextmanager
def running(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> Iterator[tuple[str, "Future[Response]"]]:
    """The id of a job that runs, and the answer to its request."""
    headers = {"X-Request-ID": "mine"}
    answer = background.submit(request, slow.port, gate("/slow/pages"), headers=headers)
    gate.wait_for(1)
    (job,) = report_of(slow)["running"]
    yield job["job"], answer
    gate.open()


def test_the_stack_of_a_running_job_has_its_innermost_frame_first_and_the_job_goes_on(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    with running(slow, gate, background) as (job, answer):
        for _ in range(20):
            found = slow.get(f"/-/stack?job={job}")
            assert (found.status, found.headers["Content-Type"]) == (200, "application/json; charset=UTF-8")
            told = json.loads(found.text)
            assert told["complete"] is True
            assert told["stack"][-1].startswith(os.path.abspath("tests/apps/telling.py:"))
            assert told["stack"][-1].endswith(" in pages")
            assert told["stack"][-2].endswith(" in wait")
        seconds = told.pop("seconds")
        assert seconds > 0
        assert told | {"stack": [], "complete": True} == {
            "job": job,
            "task": "tests.apps.telling.pages",
            "request_id": "mine",
            "route": "/slow/pages",
            "worker": gate.entered[0],
            "stack": [],
            "complete": True,
        }
        gate.open()
        assert answer.result().text == "released"
    assert slow.get(f"/-/stack?job={job}").problem()["detail"] == "no job with this id runs in this instance"


def test_several_ask_at_once_and_each_gets_a_whole_stack(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    with running(slow, gate, background) as (job, _), ThreadPoolExecutor(8) as askers:
        for found in askers.map(slow.get, [f"/-/stack?job={job}"] * 40):
            told = json.loads(found.text)
            assert told["complete"] is True
            assert told["stack"][-1].endswith(" in pages")


def test_the_stack_of_a_worker_that_is_stopped_is_not_complete(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    with running(slow, gate, background) as (job, _):
        (worker,) = gate.entered
        os.kill(worker, signal.SIGSTOP)
        try:
            told = json.loads(slow.get(f"/-/stack?job={job}").text)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert (told["stack"], told["complete"]) == ([], False)


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("", 400, "which job?"),
        ("?job=", 400, "which job?"),
        ("?job=00c0ffee00c0ffee", 404, "no job with this id"),
        ("?job=%1b[2J", 404, "no job with this id"),
    ],
)
def test_without_a_job_that_runs_there_is_no_stack(
    slow: Instance, query: str, status: int, detail: str
) -> None:
    answer = slow.get(f"/-/stack{query}")
    assert answer.status == status
    assert detail in answer.problem()["detail"]


@pytest.mark.parametrize("task", ["sleeps_for_ever", "holds_the_interpreter_lock_for_ever"])
def test_the_log_says_where_a_job_was_at_its_deadline(task: str) -> None:
    expected = "whose job is late| 504 "
    with Instance(Pool.SLOW, APP=ZOO, LOG_FORMAT="json", expected=expected) as instance:
        headers = {"Prefer": "wait=1", "X-Request-ID": "late-one"}
        assert request(instance.port, f"/slow/zoo/{task}", headers=headers).status == 504
        line = json.loads(instance.wait_for_output("whose job is late"))
    assert line["request_id"] == "late-one"
    assert line["task"] == f"tests.apps.zoo.{task}"
    assert line["level"] == "WARNING"
    innermost, *_ = line["stack"].splitlines()
    assert line["message"].endswith(f"whose job is late: it was at {innermost}")
    assert "zoo.py:" in innermost
    assert innermost.endswith(f" in {task}")


def test_a_job_that_is_given_up_is_logged_without_a_stack(slow: Instance, gate: Gate) -> None:
    with unanswered(slow.port, gate("/slow/pages")):
        gate.wait_for(1)
    slow.wait_for_output(rf"killing worker {gate.entered[0]}, whose job was given up")
    wait_until(lambda: slow.workers)
