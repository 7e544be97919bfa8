"""Requests that are accepted: the answer is fetched later."""

import http.client
import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, opened, request
from tests.support.gate import Gate
from tests.support.metrics import value
from tests.support.process import Instance

ASYNC = {"Prefer": "respond-async"}
EXPECTED = (
    "job .* has failed|^Traceback|Error|/slow/|killing worker|cannot be started|Cannot send error response"
)


def later(path: Path, pool: Pool = Pool.SLOW, **settings: Any) -> Instance:
    """An instance whose jobs are in this folder."""
    defaults: dict[str, Any] = {
        "APP": "tests.apps.later:make_app",
        "JOBS_URL": f"sqlite://{path}/jobs.sqlite",
        "SLOW_WORKERS": 1,
        "expected": EXPECTED,
    }
    return Instance(pool, **{**defaults, **settings})


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Instance]:
    with later(tmp_path) as instance:
        yield instance


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with later(tmp_path_factory.mktemp("jobs"), SLOW_WORKERS=2) as instance:
        yield instance


def accepted(instance: Instance, target: str, method: str = "GET", **options: Any) -> str:
    """The path of the job of an accepted request."""
    headers = {**ASYNC, **options.pop("headers", {})}
    answer = request(instance.port, target, method, headers=headers, **options)
    assert answer.status == 202, answer
    location = answer.headers["Location"]
    assert re.fullmatch("/slow/jobs/[0-9a-f]{32}", location)
    assert answer.headers["Preference-Applied"].startswith("respond-async")
    assert location.endswith(json.loads(answer.body)["id"])
    return str(location)


def status(instance: Instance, job: str) -> dict[str, Any]:
    answer = instance.get(job)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def wait_for_state(instance: Instance, job: str, state: str) -> dict[str, Any]:
    return wait_until(
        lambda: found if (found := status(instance, job))["state"] == state else None, what=f"a job {state}"
    )


def result(instance: Instance, job: str) -> Response:
    """The answer of a job, once it has ended."""
    wait_until(lambda: status(instance, job)["ended"])
    return instance.get(f"{job}/result")


def handled(gate: Gate) -> list[str]:
    file = gate.folder / "handled"
    return file.read_text().split() if file.exists() else []


def test_the_job_runs_on_and_what_the_handler_answers_is_its_result(shared: Instance, gate: Gate) -> None:
    job = accepted(shared, gate("/slow/report"), "POST", body=b"12345")
    gate.wait_for(1)
    running = wait_until(lambda: found if (found := status(shared, job))["progress"] else None)
    assert (running["state"], running["message"]) == ("running", "page 3 of 9")
    assert running["progress"] == pytest.approx(1 / 3)
    assert (running["ended"], running["result"]) == (None, None)
    early = shared.get(f"{job}/result")
    assert (early.status, early.headers["Retry-After"]) == (409, "1")
    assert "running" in early.problem()["detail"]
    gate.open()
    answer = result(shared, job)
    assert (answer.status, answer.text) == (201, "released POST 5")
    assert answer.headers["X-Kind"] == "report"
    assert answer.headers["Set-Cookie"] == "seen=1; Path=/"
    done = status(shared, job)
    assert (done["state"], done["progress"], done["result"]) == ("done", 1, f"{job}/result")
    assert done["created"] <= done["started"] <= done["ended"]
    assert handled(gate) == ["POST"]


def test_who_does_not_ask_for_it_is_answered(shared: Instance, gate: Gate) -> None:
    gate.open()
    for headers in ({}, {"Prefer": "wait=20"}, {"Prefer": "return=minimal"}):
        answer = request(shared.port, gate("/slow/report"), headers=headers)
        assert (answer.status, answer.text) == (201, "released GET 0")


@pytest.mark.parametrize("target", ["/slow/refusing", "/slow/checking"])
def test_a_handler_that_refuses_or_runs_nothing_is_answered(shared: Instance, target: str) -> None:
    answer = request(shared.port, target, headers=ASYNC)
    assert answer.status == (200 if target == "/slow/refusing" else 400)
    assert "Location" not in answer.headers


def test_an_application_can_refuse_with_a_setting(tmp_path: Path) -> None:
    with later(tmp_path, APP="tests.apps.later:refusing") as instance:
        assert request(instance.port, "/slow/twice", headers=ASYNC).status == 200


def test_a_handler_may_run_several_jobs(shared: Instance) -> None:
    assert result(shared, accepted(shared, "/slow/twice")).text == "2.0 3.0"


def test_a_stream_is_kept_whole(shared: Instance, gate: Gate) -> None:
    job = accepted(shared, gate("/slow/rows"))
    gate.wait_for(1)
    gate.open()
    assert result(shared, job).text == "row 1\nrow 2\n"


def test_an_answer_that_is_there_in_time_is_given_at_once(shared: Instance, gate: Gate) -> None:
    gate.open()
    answer = request(shared.port, gate("/slow/report"), headers={"Prefer": "respond-async, wait=20"})
    assert (answer.status, answer.text) == (201, "released GET 0")
    assert answer.headers["Preference-Applied"] == "respond-async, wait=20"
    assert "Location" not in answer.headers


def test_otherwise_it_is_accepted_after_that_time(shared: Instance, gate: Gate) -> None:
    job = accepted(shared, gate("/slow/report"), headers={"Prefer": "respond-async, wait=1"})
    assert status(shared, job)["state"] == "running"
    gate.open()
    assert result(shared, job).text == "released GET 0"
    assert handled(gate) == ["GET"]


def test_a_client_that_goes_away_before_it_knows_the_job_ends_it(slow: Instance, gate: Gate) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slow.port)
    connection.request("GET", gate("/slow/report"), headers={"Prefer": "respond-async, wait=30"})
    gate.wait_for(1)
    connection.close()
    wait_until(lambda: value(slow, "accepted_jobs", state="cancelled") == 1)
    wait_until(lambda: value(slow, "slow_jobs_running") == 0)


def test_jobs_wait_in_the_store_and_say_their_place(slow: Instance, gate: Gate, tmp_path: Path) -> None:
    other = Gate(tmp_path / "other")
    first = accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    second, third = (accepted(slow, other("/slow/report")) for _ in range(2))
    assert [status(slow, job)["ahead"] for job in (first, second, third)] == [None, 0, 1]
    assert status(slow, third)["starts_in_seconds"] > status(slow, second)["starts_in_seconds"] > 0
    assert slow.get(third).headers["Retry-After"] == "1"
    assert value(slow, "slow_jobs_waiting") == 0
    gate.open()
    other.open()
    assert result(slow, third).text == result(slow, second).text == "released GET 0"


def test_an_idle_instance_takes_what_waits_at_another(slow: Instance, gate: Gate, tmp_path: Path) -> None:
    other = Gate(tmp_path / "other")
    accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    job = accepted(slow, other("/slow/report"))
    with later(tmp_path) as idle:
        other.wait_for(1)
        assert other.entered[0] in [worker.pid for worker in idle.workers]
        other.open()
        assert result(slow, job).text == "released GET 0"
        gate.open()


def test_clients_that_wait_come_first_but_not_for_ever(
    tmp_path: Path, gate: Gate, background: ThreadPoolExecutor
) -> None:
    with later(tmp_path, SLOW_QUEUE=100) as slow:
        first = background.submit(slow.get, gate("/slow/report"))
        gate.wait_for(1)
        job = accepted(slow, gate("/slow/count"))
        clients = [background.submit(slow.get, gate("/slow/report")) for _ in range(40)]
        wait_until(lambda: value(slow, "slow_jobs_waiting") == 40)
        assert status(slow, job)["state"] == "waiting"
        gate.open()
        assert {client.result().status for client in [first, *clients]} == {201}
        assert 10 <= int(result(slow, job).text) < 41


def test_a_job_that_is_cancelled_loses_its_worker(slow: Instance, gate: Gate) -> None:
    job = accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    (worker,) = slow.workers
    assert slow.get(job, "DELETE").status == 204
    assert status(slow, job)["state"] == "cancelled"
    wait_until(lambda: not worker.is_running())
    answer = slow.get(f"{job}/result")
    assert (answer.status, answer.problem()["detail"]) == (410, "the job is cancelled and has no answer")
    assert slow.get(job, "DELETE").status == 204


def test_a_waiting_job_that_is_cancelled_never_runs(slow: Instance, gate: Gate, tmp_path: Path) -> None:
    accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    other = Gate(tmp_path / "other")
    job = accepted(slow, other("/slow/report"))
    assert slow.get(job, "DELETE").status == 204
    gate.open()
    assert result(slow, accepted(slow, "/slow/twice")).text == "2.0 3.0"
    assert not other.entered


def test_one_that_another_instance_runs_is_cancelled_too(slow: Instance, gate: Gate, tmp_path: Path) -> None:
    job = accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    (worker,) = slow.workers
    with later(tmp_path) as other:
        assert other.get(job, "DELETE").status == 204
        wait_until(lambda: not worker.is_running())


def test_a_failure_is_kept_with_its_answer(shared: Instance) -> None:
    job = accepted(shared, "/slow/failing")
    assert result(shared, job).status == 500
    failed = status(shared, job)
    assert (failed["state"], failed["error"], failed["result"]) == ("failed", "answered 500", f"{job}/result")


def test_a_handler_that_fails_half_way_has_no_answer(shared: Instance) -> None:
    job = accepted(shared, "/slow/broken")
    assert result(shared, job).status == 410
    assert status(shared, job)["error"] == "its handler has failed before its answer was complete"


def test_an_answer_that_is_too_large_is_a_failure_that_names_the_setting(tmp_path: Path) -> None:
    with later(tmp_path, SLOW_MAX_RESULT_BYTES=1_000_000) as instance:
        assert len(result(instance, accepted(instance, "/slow/large?times=1")).body) == 900_000
        job = accepted(instance, "/slow/large?times=2")
        assert result(instance, job).status == 410
        assert "SLOW_MAX_RESULT_BYTES" in status(instance, job)["error"]


def test_events_say_every_change_and_a_client_that_returns_misses_none(shared: Instance, gate: Gate) -> None:
    job = accepted(shared, gate("/slow/report"))
    with opened(shared.port, f"{job}/events") as events:
        assert events.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        seen: list[tuple[int, dict[str, Any]]] = []
        while not (seen and seen[-1][1]["progress"]):
            seen.append(next_event(events))
    assert [event["state"] for _, event in seen][-1] == "running"
    gate.open()
    result(shared, job)
    connection = http.client.HTTPConnection("127.0.0.1", shared.port)
    connection.request("GET", f"{job}/events", headers={"Last-Event-ID": str(seen[-1][0])})
    rest: list[tuple[int, dict[str, Any]]] = []
    with connection.getresponse() as events:
        while not (rest and rest[-1][1]["state"] == "done"):
            rest.append(next_event(events))
        assert events.read() == b"\n"  # the stream ends by itself
    connection.close()
    numbers = [number for number, _ in seen + rest]
    assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    headers = {"Last-Event-ID": str(numbers[-1])}
    assert request(shared.port, f"{job}/events", headers=headers).status == 204


def next_event(events: http.client.HTTPResponse) -> tuple[int, dict[str, Any]]:
    number = None
    while line := events.readline().decode():
        if line.startswith("id: "):
            number = int(line[4:])
        if line.startswith("data: "):
            assert number is not None
            return number, json.loads(line[6:])
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("end", ["", "/result", "/events"])
def test_an_unknown_job_is_not_found(shared: Instance, end: str) -> None:
    answer = shared.get(f"/slow/jobs/{'0' * 32}{end}")
    assert answer.problem()["detail"] == "there is no such job"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.status, shared.get(f"/slow/jobs/{'0' * 32}{end}", "HEAD").status) == (404, 404)


def test_other_paths_are_the_application_s(shared: Instance) -> None:
    assert shared.get("/slow/jobs/x/y").headers["Content-Type"].startswith("text/html")


def test_another_method_is_not_allowed(shared: Instance) -> None:
    job = accepted(shared, "/slow/twice")
    for end, method in (("", "POST"), ("/result", "DELETE"), ("/events", "PUT")):
        answer = shared.get(job + end, method, body=b"")
        assert answer.problem()["status"] == 405


def test_head_is_answered_like_get(shared: Instance) -> None:
    job = accepted(shared, "/slow/twice")
    whole = result(shared, job)
    head = shared.get(f"{job}/result", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.body))
    assert shared.get(job, "HEAD").status == 200
    assert shared.get(f"{job}/events", "HEAD").headers["Content-Type"].startswith("text/event-stream")


def test_only_its_owner_sees_a_job(shared: Instance) -> None:
    job = accepted(shared, "/slow/twice", headers={"X-User": "ann"})
    for end in ("", "/result", "/events"):
        for headers in ({}, {"X-User": "bob"}):
            assert request(shared.port, job + end, headers=headers).status == 404
        wait_until(lambda: request(shared.port, job + end, headers={"X-User": "ann"}).status == 200)  # noqa: B023
    assert request(shared.port, job, "DELETE", headers={"X-User": "bob"}).status == 404


def test_the_same_key_is_the_same_job(slow: Instance, gate: Gate) -> None:
    headers = {"Idempotency-Key": "a-key"}
    first = accepted(slow, gate("/slow/report"), "POST", body=b"12345", headers=headers)
    gate.wait_for(1)
    assert accepted(slow, gate("/slow/report"), "POST", body=b"12345", headers=headers) == first
    other = request(slow.port, gate("/slow/report"), "POST", body=b"1", headers={**ASYNC, **headers})
    assert other.status == 422
    assert "Idempotency-Key" in other.problem()["detail"]
    gate.open()
    result(slow, first)
    assert accepted(slow, gate("/slow/report"), "POST", body=b"12345", headers=headers) == first
    waiting = {**headers, "Prefer": "respond-async, wait=20"}
    answer = request(slow.port, gate("/slow/report"), "POST", body=b"12345", headers=waiting)
    assert (answer.status, answer.text) == (201, "released POST 5")
    assert len(gate.entered) == 1


def test_what_waits_is_bounded(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path, JOB_QUEUE=1) as instance:
        running = accepted(instance, gate("/slow/report"))
        gate.wait_for(1)
        waiting = accepted(instance, "/slow/twice")
        answer = request(instance.port, "/slow/twice", headers=ASYNC)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "JOB_QUEUE" in answer.problem()["detail"]
        gate.open()
        assert result(instance, running).status == 201
        assert result(instance, waiting).status == 200
        accepted(instance, "/slow/twice")


def test_an_answer_expires(tmp_path: Path) -> None:
    with later(tmp_path, JOB_RESULT_SECONDS=2) as instance:
        job = accepted(instance, "/slow/twice")
        wait_until(lambda: instance.get(job).status == 410)
        wait_until(lambda: instance.get(f"{job}/result").status == 404)


def test_the_deadline_counts_from_the_start(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path, SLOW_TIMEOUT_SECONDS=1, JOB_TIMEOUT_SECONDS=3600) as instance:
        job = accepted(instance, gate("/slow/report"))
        gate.wait_for(1)
        client = instance.get(gate("/slow/report"))  # for one that waits it is over
        assert client.status == 504
        assert status(instance, job)["state"] == "running"
        gate.open()
        assert result(instance, job).status == 201


def test_a_job_that_takes_too_long_has_failed(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path, JOB_TIMEOUT_SECONDS=0.5) as instance:
        job = accepted(instance, gate("/slow/report"))
        assert result(instance, job).status == 504
        assert status(instance, job)["state"] == "failed"


def test_jobs_are_there_after_a_restart(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path) as instance:
        done = accepted(instance, "/slow/twice")
        result(instance, done)
        running = accepted(instance, gate("/slow/report"))
        gate.wait_for(1)
        waiting = accepted(instance, "/slow/twice")
        instance.signal(signal.SIGINT)
        instance.wait_for_output("drains")
        instance.signal(signal.SIGINT)
        assert instance.wait() == 0
    gate.open()
    with later(tmp_path) as instance:
        assert instance.get(f"{done}/result").text == "2.0 3.0"
        assert result(instance, waiting).text == "2.0 3.0"
        assert result(instance, running).text == "released GET 0"


@pytest.mark.parametrize(
    ("method", "key", "state"), [("GET", "", "done"), ("POST", "", "failed"), ("POST", "a-key", "done")]
)
def test_a_job_whose_instance_is_killed_runs_again_only_if_it_may(
    tmp_path: Path, gate: Gate, method: str, key: str, state: str
) -> None:
    # Two workers: one may be kept for what waits, and the handler would then run from its start once more.
    with later(tmp_path, ends_with=-9, SLOW_WORKERS=2) as instance:
        headers = {"Idempotency-Key": key} if key else {}
        job = accepted(instance, gate("/slow/report"), method, body=b"x" if key else None, headers=headers)
        gate.wait_for(1)
        instance.signal(signal.SIGKILL)
        instance.wait()
    gate.open()
    with later(tmp_path, JOB_LEASE_SECONDS=1) as instance:
        ended = wait_for_state(instance, job, state)
        assert len(handled(gate)) == (2 if state == "done" else 1)
        assert ended["error"] == (None if state == "done" else "its instance died; it may have run")


def test_an_instance_that_was_paused_cannot_change_what_another_has_done(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path, JOB_LEASE_SECONDS=1) as paused, later(tmp_path, JOB_LEASE_SECONDS=1) as other:
        job = accepted(paused, gate("/slow/report"))
        gate.wait_for(1)
        paused.signal(signal.SIGSTOP)
        gate.wait_for(2)
        assert gate.entered[1] in [worker.pid for worker in other.workers]
        gate.open()
        answer = result(other, job)
        ended = status(other, job)
        paused.signal(signal.SIGCONT)
        wait_until(lambda: value(paused, "slow_jobs_running") == 0)
        assert status(paused, job) == ended
        assert paused.get(f"{job}/result").body == answer.body


def test_a_draining_instance_finishes_what_it_runs_and_takes_no_more(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path) as instance:
        running = accepted(instance, gate("/slow/report"), "POST", body=b"x")
        gate.wait_for(1)
        waiting = accepted(instance, "/slow/twice")
        instance.terminate()
        instance.wait_for_output("drains")
        gate.open()
        assert instance.wait() == 0
    with later(tmp_path) as instance:
        assert status(instance, running)["state"] == "done"
        assert result(instance, waiting).text == "2.0 3.0"


def test_what_it_cannot_finish_goes_back_or_has_failed(tmp_path: Path, gate: Gate) -> None:
    timeouts: dict[str, Any] = {"SLOW_TIMEOUT_SECONDS": 1, "DRAIN_TIMEOUT_SECONDS": 4}
    with later(tmp_path, SLOW_WORKERS=2, **timeouts) as instance:
        again = accepted(instance, gate("/slow/report"))
        once = accepted(instance, gate("/slow/report"), "POST", body=b"x")
        gate.wait_for(2)
        instance.terminate()
        assert instance.wait() == 0
    gate.open()
    with later(tmp_path) as instance:
        assert result(instance, again).text == "released GET 0"
        failed = status(instance, once)
        assert (failed["state"], failed["error"]) == (
            "failed",
            "its instance was shut down while it ran; it may have run",
        )


def test_a_store_that_cannot_be_used_is_said_and_harms_no_other_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    url = f"sqlite://{tmp_path}/file/jobs.sqlite"
    with later(tmp_path, JOBS_URL=url, expected=f"{EXPECTED}|accepted") as instance:
        assert instance.get("/slow/twice").text == "2.0 3.0"
        answer = request(instance.port, "/slow/twice", headers=ASYNC)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        (tmp_path / "file").unlink()
        assert result(instance, accepted(instance, "/slow/twice")).text == "2.0 3.0"


def test_a_fast_instance_has_no_jobs(tmp_path: Path) -> None:
    with later(tmp_path, Pool.FAST) as instance:
        assert instance.get(f"/slow/jobs/{'0' * 32}").status == 404
        assert not (tmp_path / "jobs.sqlite").exists()


def test_a_request_that_is_answered_otherwise_meanwhile_is_not_accepted(shared: Instance) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port)
    for _ in range(20):
        connection.request("GET", "/slow/forbidden", headers=ASYNC)
        answer = connection.getresponse()
        assert answer.status == 403
        answer.read()
        connection.request("GET", "/slow/checking")
        following = connection.getresponse()
        assert following.status == 400
        following.read()
    connection.close()
    wait_until(lambda: value(shared, "accepted_jobs", state="running") == 0)


def test_without_an_owner_a_key_gives_nobody_else_the_job(tmp_path: Path) -> None:
    with later(tmp_path, APP="tests.apps.later:without_owner") as instance:
        headers = {"Idempotency-Key": "1", "Cookie": "user=ann"}
        job = accepted(instance, "/slow/twice", headers=headers)
        assert accepted(instance, "/slow/twice", headers=headers) == job
        other = {**ASYNC, **headers, "Cookie": "user=bob"}
        assert request(instance.port, "/slow/twice", headers=other).status == 422
        assert instance.get(job).status == 200  # who knows the id


def test_many_that_come_at_once_wait_in_the_store_for_one_worker(
    slow: Instance, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answers = [background.submit(accepted, slow, gate("/slow/report")) for _ in range(12)]
    jobs = [answer.result() for answer in answers]
    gate.wait_for(1)
    states = [status(slow, job)["state"] for job in jobs]
    assert (states.count("running"), states.count("waiting")) == (1, 11)
    gate.open()
    assert {result(slow, job).status for job in jobs} == {201}


def test_a_handler_that_cannot_be_made_anew_costs_only_its_job(slow: Instance, gate: Gate) -> None:
    first = accepted(slow, gate("/slow/report"))
    gate.wait_for(1)
    broken = accepted(slow, f"{gate('/slow/unmade')}")
    good = accepted(slow, "/slow/twice")
    (gate.folder / "broken").touch()
    gate.open()
    assert result(slow, first).status == 201
    assert result(slow, good).text == "2.0 3.0"
    assert wait_for_state(slow, broken, "failed")["result"] is None


def test_a_handler_that_blocks_its_instance_costs_no_lease(tmp_path: Path, gate: Gate) -> None:
    with later(tmp_path, JOB_LEASE_SECONDS=1) as instance, later(tmp_path, JOB_LEASE_SECONDS=1) as other:
        job = accepted(instance, gate("/slow/report"), "POST", body=b"x")
        gate.wait_for(1)
        assert instance.get("/slow/blocking?seconds=3").text == "blocked"
        assert status(other, job)["state"] == "running"
        gate.open()
        assert result(other, job).text == "released POST 1"


def test_on_finish_is_called_for_a_job_that_is_cancelled(slow: Instance, gate: Gate) -> None:
    job = accepted(slow, gate("/slow/finishing"))
    gate.wait_for(1)
    assert slow.get(job, "DELETE").status == 204
    wait_until((gate.folder / "finished").exists)
    assert "Traceback" not in slow.output
