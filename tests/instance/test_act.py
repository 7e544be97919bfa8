"""An operator acts: on an instance, through another one, and from a terminal."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from slowpool.config import Config, Pool
from slowpool.errors import NotFound
from slowpool.status.act import ACT, USER, Actions
from tests.support.acting import HEADERS, SETTINGS, Deployment, own
from tests.support.basics import free_ports, wait_until
from tests.support.client import request
from tests.support.gate import Gate
from tests.support.process import Instance
from tests.support.report import report_of


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("jobs"))
    with deployment.fast, deployment.slow:
        yield deployment


def accepted(two: Deployment, target: str) -> str:
    """The id of an accepted job."""
    answer = request(two.slow.port, target, headers={"Prefer": "respond-async"})
    assert answer.status == 202
    return str(answer.headers["Location"].rpartition("/")[2])


def actions(two: Deployment) -> Actions:
    """Those of a terminal beside the two."""
    return Actions(Config(**{name.lower(): value for name, value in two.settings.items()}), print)


def state(two: Deployment, job: str) -> str:
    return str(two.slow.get(f"/slow/jobs/{job}").json()["state"])


def test_a_job_that_is_cancelled_ends_its_request_with_502_and_its_worker_is_replaced(
    two: Deployment, gate: Gate, background: ThreadPoolExecutor
) -> None:
    headers = {"X-Request-ID": "cancelled-one"}
    answer = background.submit(request, two.slow.port, gate("/slow/report"), headers=headers)
    gate.wait_for(1)
    (job,) = two.running()
    done = own(two.slow, f"cancel?job={job['job']}")
    assert (done.status, done.json()) == (
        200,
        {"text": f"job {job['job']} was cancelled at slow:{two.slow.port}"},
    )
    assert answer.result().status == 502
    assert answer.result().problem()["detail"] == "an operator cancelled the job while it ran"
    wait_until(lambda: [worker.pid for worker in two.slow.workers] not in ([], [job["worker"]]))
    line = two.logged("was cancelled by ada")
    assert (line["request_id"], line["route"], line["job"]) == ("cancelled-one", "/slow/report", job["job"])
    assert (line["user"], line["kind"]) == ("ada", "act")
    again = own(two.slow, f"cancel?job={job['job']}")
    assert (again.status, again.problem()["detail"]) == (
        404,
        "no job with this id runs or waits here, or is accepted",
    )


def test_a_job_is_cancelled_through_another_instance_by_the_beginning_of_its_id_or_its_request_id(
    two: Deployment, gate: Gate, background: ThreadPoolExecutor
) -> None:
    for number, name in enumerate(("beginning", "request")):
        headers = {"X-Request-ID": f"{name}-of-it"}
        answer = background.submit(request, two.slow.port, gate("/slow/report"), headers=headers)
        gate.wait_for(number + 1)
        (job,) = two.running()
        done = two.act(action="cancel", job=job["job"][:3] if name == "beginning" else "request-of-it")
        assert done.status == 200, done
        assert done.json() == {"text": f"job {job['job']} was cancelled at slow:{two.slow.port}"}
        assert answer.result().status == 502
        wait_until(lambda: not two.running())
        two.logged(f"{job['job']} was cancelled by ada at fast:{two.fast.port}")


def test_an_id_that_could_be_several_jobs_is_refused_with_their_ids(
    tmp_path: Path, gate: Gate, background: ThreadPoolExecutor
) -> None:
    settings: dict[str, Any] = {**SETTINGS, "SLOW_WORKERS": 2, "LOG_FORMAT": "console"}
    port = free_ports()
    settings |= {"SLOW_PORT": port, "FAST_PORT": free_ports(), "APP": "tests.apps.later:make_app"}
    with Instance(Pool.SLOW, port=port, **settings) as slow:
        headers = {"X-Request-ID": "both"}
        answers = [background.submit(request, port, gate("/slow/report"), headers=headers) for _ in range(2)]
        gate.wait_for(2)
        body = b'{"action": "cancel", "job": "both"}'
        done = request(port, "/-/status/act", "POST", headers=HEADERS, body=body)
        assert done.status == 409
        for job in report_of(slow)["running"]:
            assert f"{job['job']} (tests.apps.later.report, slow:{port} at" in done.problem()["detail"]
        gate.open()
        assert [answer.result().text for answer in answers] == ["released GET 0"] * 2


def test_the_stack_of_a_job_is_found_in_whichever_instance_it_runs(
    two: Deployment, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(two.slow.get, gate("/slow/report"))
    gate.wait_for(1)
    (job,) = two.running()
    path = f"/-/status/stack?job={job['job'][:5]}"
    told = wait_until(
        lambda: told if (told := request(two.fast.port, path, headers=HEADERS).json())["complete"] else None
    )
    assert told["job"] == job["job"]
    assert told["stack"][-1].endswith(" in report")
    assert request(two.fast.port, path).status == 403
    shown = wait_until(
        lambda: found if "in time" not in (found := two.terminal("stack", job["job"][:5])).stdout else None
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    first, *frames = shown.stdout.splitlines()
    assert first.startswith(f"tests.apps.later.report in worker {job['worker']}, for ")
    assert frames[-1].endswith(" in report")
    gate.open()
    assert answer.result().status == 201


def test_an_accepted_job_is_cancelled_where_it_waits_and_where_it_runs_by_either_id(
    two: Deployment, gate: Gate
) -> None:
    runs, waits, last = (accepted(two, gate("/slow/report")) for _ in range(3))
    gate.wait_for(1)
    assert state(two, waits) == "waiting"
    assert two.act(action="cancel", job=waits).status == 200
    assert state(two, waits) == "cancelled"
    (job,) = two.running()
    done = two.act(action="cancel", job=job["job"])
    assert done.json() == {"text": f"job {runs} was cancelled at slow:{two.slow.port}"}
    assert state(two, runs) == "cancelled"
    gate.wait_for(2)
    assert own(two.slow, f"cancel?job={last}").status == 200
    assert state(two, last) == "cancelled"
    wait_until(lambda: not two.running())
    assert own(two.slow, f"cancel?job={last}").status == 200, "it is cancelled all the same"


@pytest.mark.parametrize("which", ["accepted", "running"])
def test_a_client_cannot_have_its_request_taken_for_a_job_by_giving_it_the_id_of_that(
    two: Deployment, gate: Gate, background: ThreadPoolExecutor, which: str
) -> None:
    victim = accepted(two, gate("/slow/report"))
    gate.wait_for(1)
    (job,) = two.running()
    chosen = victim if which == "accepted" else job["job"]
    headers = {"X-Request-ID": chosen}
    answers = []
    for count in (1, 2):
        answers.append(background.submit(request, two.slow.port, gate("/slow/report"), headers=headers))
        wait_until(lambda: len(report_of(two.slow)["waiting_jobs"]) == count)  # noqa: B023  # waits here
        found, name = asyncio.run(actions(two).find(chosen))
        assert found == chosen
        is_either = which == "accepted" and count == 1  # later several have this request id
        assert name.startswith("the accepted job " if is_either else "job ")
    done = two.act(action="cancel", job=chosen)
    assert done.json() == {"text": f"job {victim} was cancelled at slow:{two.slow.port}"}
    assert state(two, victim) == "cancelled"
    gate.open()
    assert [answer.result().status for answer in answers] == [201, 201]


def test_who_has_looked_at_the_instances_leaves_no_connection_open(two: Deployment) -> None:
    async def left() -> set[int]:
        """The ports that this process is connected to afterwards."""
        with pytest.raises(NotFound):
            await actions(two).find("none")
        ours = psutil.Process().net_connections()
        return {connection.raddr.port for connection in ours if connection.raddr}

    assert not asyncio.run(left()) & {two.fast.port, two.slow.port}


def test_an_accepted_job_that_is_done_is_not_cancelled(two: Deployment, gate: Gate) -> None:
    gate.open()
    job = accepted(two, gate("/slow/report"))
    wait_until(lambda: state(two, job) == "done")
    done = two.act(action="cancel", job=job)
    assert (done.status, done.problem()["detail"]) == (409, "the job is done already")


def test_without_supervisor_nothing_is_restarted_or_rolled(two: Deployment) -> None:
    port = two.slow.port
    for answer in (
        own(two.slow, "restart"),
        two.act(action="restart", instance=f"slow:{port}", address="127.0.0.1"),
        two.act(action="roll", pool="slow"),
        two.act(action="roll", pool="slow"),
    ):
        assert answer.status == 409
        assert f"slow:{port} runs without supervisor: stop it" in answer.problem()["detail"]


@pytest.mark.parametrize(
    ("wish", "status", "detail"),
    [
        ({"action": "cancel", "job": ""}, 400, "which job?"),
        ({"action": "cancel", "job": "0" * 16}, 404, "no job is known by this id"),
        ({"action": "cancel", "job": "\ud800" * 16}, 404, "no job is known by this id"),
        ({"action": "cancel", "job": "0" * 32}, 404, "no job is known by this id"),
        ({"action": "cancel", "job": "\x1b[2J"}, 404, "no job is known by this id"),
        ({"action": "cancel", "job": "/../act/restart?x="}, 404, "no job is known by this id"),
        ({"action": "restart", "instance": "fast:1", "address": ""}, 404, "known are fast:"),
        ({"action": "restart", "instance": "fast:1"}, 400, "the body is"),
        ({"action": "roll", "pool": "all"}, 400, "the body is"),
        ({"action": "burn"}, 400, "the body is"),
        ({}, 400, "the body is"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(
    two: Deployment, wish: dict[str, str], status: int, detail: str
) -> None:
    answer = two.act(**wish)
    assert answer.status == status
    assert detail in answer.problem()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_wish_is_refused(two: Deployment, body: bytes) -> None:
    assert request(two.fast.port, "/-/status/act", "POST", headers=HEADERS, body=body).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {ACT: ""},
        {ACT: "0"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_act(two: Deployment, headers: dict[str, str]) -> None:
    for path in ("/-/status/act", "/-/act/cancel?job=0", "/-/act/restart"):
        answer = request(two.slow.port, path, "POST", headers={**HEADERS, **headers}, body=b"{}")
        assert answer.status == 403
        assert answer.problem()["detail"]
    stack = request(two.slow.port, "/-/status/stack?job=0", headers={**HEADERS, **headers})
    assert stack.status == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
def test_a_page_of_this_server_can(two: Deployment, origin: str) -> None:
    name = origin.format(port=two.slow.port)
    headers = {"Origin": name, "Host": name.removeprefix("http://"), "Sec-Fetch-Site": "same-origin"}
    assert own(two.slow, "cancel?job=0", **headers).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_no_other_method_acts_or_is_allowed_to_other_sites(two: Deployment, method: str) -> None:
    for path in ("/-/status/act", "/-/act/cancel?job=0", "/-/act/restart"):
        answer = request(two.fast.port, path, method, headers=HEADERS)
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_who_acts_is_printable_and_short_in_the_log(two: Deployment, gate: Gate) -> None:
    job = accepted(two, gate("/slow/report"))
    own(two.slow, f"cancel?job={job}", **{USER: "\x9b\x85" + "x" * 500})
    line = two.logged(f"{job} was cancelled by")
    assert re.search(r"by \\x9b\\x85x{198}$", line["message"])


def test_the_terminal_lists_jobs_and_cancels_one(
    two: Deployment, gate: Gate, background: ThreadPoolExecutor
) -> None:
    assert two.terminal("jobs").stdout.startswith("no job runs or waits\n")
    headers = {"X-Request-ID": "seen"}
    answer = background.submit(request, two.slow.port, gate("/slow/report"), headers=headers)
    gate.wait_for(1)
    (job,) = two.running()
    title, row, *_ = two.terminal("jobs").stdout.splitlines()
    assert title.split()[:3] == ["job", "state", "age"]
    assert re.match(rf"{job['job']}  running  .* tests\.apps\.later\.report +/slow/report ", row)
    listed = json.loads(two.terminal("jobs", "--json").stdout)
    assert [one["job"] for one in listed["running"]] == [job["job"]]
    assert listed["waiting"] == []
    unsure = two.terminal("cancel", job["job"])
    assert (unsure.returncode, unsure.stdout) == (2, "")
    assert "add --yes" in unsure.stderr
    done = two.terminal("cancel", "seen", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"job {job['job']} was cancelled at slow:{two.slow.port}\n"
    assert answer.result().status == 502
    two.logged(f"{job['job']} was cancelled by .* in a terminal")


@pytest.mark.parametrize("command", [["stack", "c0ffee"], ["cancel", "c0ffee", "--yes"]])
def test_the_terminal_says_so_when_there_is_no_such_job(two: Deployment, command: list[str]) -> None:
    done = two.terminal(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "slowpool: no job is known by this id, beginning of an id or request id\n"


@pytest.mark.parametrize("command", [["restart", "slow:{port}"], ["roll", "slow"]])
def test_the_terminal_says_why_it_cannot_restart(two: Deployment, command: list[str]) -> None:
    arguments = [part.format(port=two.slow.port) for part in command]
    done = two.terminal(*arguments, "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "runs without supervisor" in done.stderr
    assert two.terminal(*arguments).returncode == 2


@pytest.mark.parametrize("command", [["stack"], ["cancel"], ["restart"], ["roll"], ["roll", "all"]])
def test_a_wrong_command_line_is_usage(two: Deployment, command: list[str]) -> None:
    done = two.terminal(*command)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: slowpool {command[0]} ")
