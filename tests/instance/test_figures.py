"""What an instance tells of its jobs, its routes and its failures."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import request
from tests.support.gate import Gate
from tests.support.process import Instance
from tests.support.report import report_of

CONTROLLED = "tests.apps.controlled:make_app"


def test_a_running_job_has_the_figures_of_its_worker_and_a_waiting_one_its_place(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(Pool.SLOW, APP=CONTROLLED, SLOW_WORKERS=1, SLOW_TIMEOUT_SECONDS=50) as slow:
        answers = [background.submit(request, slow.port, gate("/slow/task"), headers={"X-Request-ID": "1"})]
        gate.wait_for(1)
        for number in ("2", "3"):
            headers = {"X-Request-ID": number}
            answers.append(background.submit(request, slow.port, gate("/slow/task"), headers=headers))
            wait_until(lambda: report_of(slow)["waiting"] == len(answers) - 1)
        report = report_of(slow)
        (running,) = report["running"]
        (worker,) = slow.workers
        assert (running["worker"], running["request_id"], running["accepted"]) == (worker.pid, "1", False)
        assert 0 < running["deadline_seconds"] < 50
        assert running["age_seconds"] + running["deadline_seconds"] <= 50
        assert running["resident_bytes"] == worker.memory_info().rss
        assert 0 <= running["cpu_seconds"] <= sum(worker.cpu_times()[:2]) + 0.02
        waiting = report["waiting_jobs"]
        assert [(job["place"], job["request_id"]) for job in waiting] == [(1, "2"), (2, "3")]
        assert all(job["route"] == "/slow/task" for job in waiting)
        assert waiting[0]["task"] == "tests.apps.controlled.wait"
        assert waiting[0]["age_seconds"] > waiting[1]["age_seconds"] > 0
        gate.open()
        assert [answer.result().status for answer in answers] == [200, 200, 200]


def test_the_cpu_time_is_that_of_the_job_and_not_of_those_before_it(background: ThreadPoolExecutor) -> None:
    with Instance(Pool.SLOW, APP="tests.apps.watched:make_app", SLOW_WORKERS=1, expected="worker") as slow:
        (worker,) = slow.workers
        used = 0.3

        def running() -> Any:
            return next(iter(report_of(slow)["running"]), None)

        assert request(slow.port, f"/slow/task/burn?seconds={2 * used}").status == 200
        assert sum(worker.cpu_times()[:2]) >= used
        first = background.submit(request, slow.port, "/slow/task/sleep?seconds=1")
        assert wait_until(running)["cpu_seconds"] < used
        assert first.result().status == 200
        spinning = background.submit(request, slow.port, "/slow/task/spins_for_ever", timeout=60)
        wait_until(lambda: (job := running()) and job["cpu_seconds"] > used)
        psutil.Process(worker.pid).kill()
        assert spinning.result().status == 502


def test_routes_and_failures_of_an_instance_are_told_to_who_has_not_seen_the_current_step() -> None:
    with Instance(Pool.SLOW, APP=CONTROLLED, expected="") as slow:
        assert slow.get("/echo/1").status == slow.get("/echo/2").status == 200
        assert slow.get("/slow/fail").status == 500
        assert slow.get("/nowhere").status == 404

        def routes() -> dict[str, Any]:
            return {name: row for step in report_of(slow)["routes"].values() for name, row in step.items()}

        wait_until(lambda: len(routes()) == 3, what="the end of the step")
        told = routes()
        assert {name: (row["requests"], row["errors"], row["with_jobs"]) for name, row in told.items()} == {
            "/echo.*": (2, 0, 0),
            "/slow/fail": (1, 1, 1),
            "": (1, 0, 0),
        }
        assert told["/slow/fail"]["run_seconds"] > 0
        (failure,) = report_of(slow)["failures"]
        assert failure["outcome"] == "failed"
        assert failure["error"] == "ZeroDivisionError: division by zero"
        assert (failure["task"], failure["route"]) == ("tests.apps.controlled.divide", "/slow/fail")
        later = report_of(slow, since=10**9)
        assert (later["routes"], later["failures"]) == ({}, [])
