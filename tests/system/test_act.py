"""An operator acts on a whole system: through the admin port, from a terminal, never from another site."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.browser import chromium, needs_chromium
from tests.support.client import Response, request
from tests.support.gate import Gate
from tests.support.load import Client, Load, Outcome
from tests.support.system import System, wait_until_whole
from tests.support.watching import texts

ACT = {"X-Slowpool-Act": "1"}
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def steered() -> Iterator[System]:
    with System(APP="tests.apps.controlled:make_app", SLOW_PER_CLIENT=0, SLOW_WORKERS=2) as system:
        yield system


@pytest.fixture
def whole(steered: System) -> System:
    wait_until_whole(steered, fast="/echo", slow="/slow/echo")
    return steered


@pytest.fixture(scope="module")
def recording() -> Iterator[System]:
    with System(APP="tests.apps.recording:make_app") as system:
        yield system


def act(system: System, headers: dict[str, str] | None = None, **wish: str) -> Response:
    """What the page asks for."""
    body = json.dumps(wish).encode()
    return request(system.admin_port, "/status/act", "POST", headers={**ACT, **(headers or {})}, body=body)


def terminal(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``slowpool`` with these arguments, in the project's folder, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "slowpool", *arguments],
        cwd=ROOT,
        env=system.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )


def running(system: System) -> list[dict[str, str]]:
    """The rows of ``slowpool jobs``."""
    rows: list[dict[str, str]] = json.loads(terminal(system, "jobs", "--json").stdout)["running"]
    return rows


def pids(system: System, pool: str) -> dict[int, int]:
    return {port: system.pid_of(pool, port) for port in system.instances(pool)}


def wait_until_replaced(system: System, pool: str, before: dict[int, int]) -> None:
    def is_replaced() -> bool:
        after = pids(system, pool)
        return 0 not in after.values() and not set(after.values()) & set(before.values())

    wait_until(is_replaced, timeout=100, what=f"other processes than {before}")


def targets(folder: Path) -> dict[str, str]:
    """A short request of each pool."""
    return {"fast": "/large", "slow": f"/slow/record?folder={folder}&id=x&milliseconds=0"}


def clients(folder: Path) -> list[Client]:
    """Of both pools, on kept and on fresh connections."""
    fast = [
        Client(method, f"/record?folder={folder}", 20, keeps)
        for method in ("GET", "POST")
        for keeps in (True, False)
    ]
    return [*fast, Client("GET", "/slow/record?milliseconds=100", 5, fast=False)]


def test_a_running_job_is_cancelled_through_the_admin_port_and_its_client_is_told(
    whole: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(whole.get, gate("/slow/task"), headers={"X-Request-ID": "to-be-cancelled"})
    gate.wait_for(1)
    (job,) = running(whole)
    path = f"/status/stack?job={job['job'][:6]}"
    stack = wait_until(lambda: request(whole.admin_port, path, headers=ACT).json()["stack"])
    assert stack[-1].endswith(" in wait")
    done = act(whole, action="cancel", job=job["job"])
    assert done.status == 200, done
    assert done.json() == {"text": f"job {job['job']} was cancelled at {job['instance']}"}
    assert answer.result().status == 502
    assert answer.result().problem()["detail"] == "an operator cancelled the job while it ran"
    line = json.loads(whole.wait_for_output(rf"{job['job']} was cancelled by"))
    assert re.fullmatch(rf"job {job['job']} was cancelled by an operator at fast:\d+", line["message"])
    assert line["request_id"] == "to-be-cancelled"
    assert act(whole, action="cancel", job=job["job"]).status == 404


def test_an_instance_is_restarted_and_no_request_beside_it_is_lost(recording: System, tmp_path: Path) -> None:
    for pool in ("fast", "slow"):
        port = recording.instances(pool)[0]
        before = pids(recording, pool)
        with Load(recording.port, clients(tmp_path)) as load:
            done = act(recording, action="restart", instance=f"{pool}:{port}", address="127.0.0.1")
            assert done.status == 200, done
            again = act(recording, action="restart", instance=f"{pool}:{port}", address="127.0.0.1")
            assert again.status in (409, 502), again
            wait_until_replaced(recording, pool, {port: before[port]})
            wait_until_whole(recording, **targets(tmp_path))
        assert {one.outcome for one in load.requests} == {Outcome.ANSWERED}
        after = pids(recording, pool)
        assert {port for port in after if after[port] != before[port]} == {port}
        assert recording.wait_for_output(rf"{pool}:{port} restarts for an operator at fast:\d+")
        assert recording.wait_for_output(rf"{pool}:{pool}-{port} was asked to restart: restarting it")


def test_a_pool_is_rolled_without_a_lost_request_and_only_one_roll_at_a_time(
    recording: System, tmp_path: Path
) -> None:
    for pool in ("slow", "fast"):
        other = "fast" if pool == "slow" else "slow"
        before, untouched = pids(recording, pool), pids(recording, other)
        with Load(recording.port, clients(tmp_path)) as load:
            done = act(recording, action="roll", pool=pool)
            assert done.status == 202, done
            assert done.json() == {"text": f"restarts the 2 instances of the {pool} pool one at a time"}
            second = act(recording, action="roll", pool=pool)
            assert second.status == 409
            assert "a roll is under way here" in second.problem()["detail"]
            wait_until_replaced(recording, pool, before)
            wait_until_whole(recording, **targets(tmp_path))
        assert {one.outcome for one in load.requests} == {Outcome.ANSWERED}
        assert pids(recording, other) == untouched
        recording.wait_for_output(
            {
                "slow": r"slow:\d+ at 127.0.0.1 is ready again, 2 of 2",
                "fast": r"fast:\d+ at 127.0.0.1 restarts, the last of the fast pool",
            }[pool]
        )


def test_the_terminal_rolls_a_pool_and_restarts_an_instance(whole: System) -> None:
    before = pids(whole, "slow")
    done = terminal(whole, "roll", "slow", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("is ready again, 2 of 2")
    told = texts(whole.instances("fast")[0], "roll")
    assert [f"roll : {line}" for line in reversed(done.stdout.splitlines())] == told
    after = pids(whole, "slow")
    assert not set(before.values()) & set(after.values())
    port = whole.instances("fast")[0]
    before = {port: whole.pid_of("fast", port)}
    done = terminal(whole, "restart", f"fast:{port}", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        f"fast:{port} will be drained and started again, after any other of its replica\n",
    )
    wait_until_replaced_one(whole, port, before[port])
    assert whole.wait_for_output(rf"fast:{port} restarts for .* in a terminal")


def wait_until_replaced_one(system: System, port: int, before: int) -> None:
    wait_until(lambda: system.pid_of("fast", port) not in (0, before), timeout=100)


@needs_chromium
def test_a_page_from_elsewhere_cannot_act(whole: System, gate: Gate, background: ThreadPoolExecutor) -> None:
    answer = background.submit(whole.get, gate("/slow/task"))
    gate.wait_for(1)
    (job,) = running(whole)
    body = json.dumps({"action": "cancel", "job": job["job"]})
    url = f"http://localhost:{whole.admin_port}/status/act"
    with chromium() as browser:
        page = browser.new_page()
        # The same site, but another origin: its port differs.
        page.goto(f"http://localhost:{whole.port}/nothing")

        def send(options: dict[str, object]) -> str:
            said: str = page.evaluate(
                "([url, options]) => fetch(url, options).then(a => `${a.type} ${a.status}`, () => 'refused')",
                [url, {"method": "POST", "body": body, **options}],
            )
            return said

        assert send({"headers": ACT}) == "refused"
        assert send({"mode": "no-cors"}) == "opaque 0"
        assert send({"mode": "no-cors", "headers": ACT}) == "opaque 0", "the browser leaves the header out"
        stack = f"http://localhost:{whole.admin_port}/status/stack?job={job['job']}"
        assert page.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", stack) == "refused"
        with page.expect_navigation():
            page.evaluate(
                "url => { const f = document.createElement('form'); f.method = 'post'; f.action = url;"
                " f.enctype = 'text/plain'; document.body.append(f); f.submit() }",
                url,
            )
        assert "an action needs the header" in page.content()
        assert [one["job"] for one in running(whole)] == [job["job"]]

        page.goto(f"http://localhost:{whole.admin_port}/status")
        assert send({"headers": ACT}) == "basic 200", "the page itself can"
        assert answer.result().status == 502


def test_a_name_that_a_client_claims_is_not_believed_without_a_password(whole: System, gate: Gate) -> None:
    job = accepted(whole, gate)
    claim = {"X-Slowpool-User": "mallory", "Authorization": basic("mallory", "x")}
    assert act(whole, claim, action="cancel", job=job).status == 200
    line = json.loads(whole.wait_for_output(f"{job} was cancelled"))
    assert re.search(r"by an operator at fast:\d+$", line["message"])


def test_with_a_password_the_log_has_the_user(tmp_path: Path, gate: Gate) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    file = tmp_path / "password"
    with System(APP="tests.apps.controlled:make_app", ADMIN_PASSWORD_FILE=file, SLOW_PROCESSES=1) as system:
        job = accepted(system, gate)
        for credentials in ({}, {"Authorization": basic("admin", "wrong")}):
            assert act(system, credentials, action="cancel", job=job).status == 401
        claim = {"X-Slowpool-User": "mallory", "Authorization": basic("admin", PASSWORD)}
        assert act(system, claim, action="cancel", job=job).status == 200
        line = json.loads(system.wait_for_output(f"{job} was cancelled"))
        assert re.search(r"by admin at fast:\d+$", line["message"])
        assert "mallory" not in system.output


@pytest.mark.parametrize(
    "path", ["/-/act/restart", "/-/act/cancel?job=0", "/-/status/act", "/-/status/stack"]
)
def test_nobody_acts_through_the_public_port(whole: System, path: str) -> None:
    answer = whole.get(path, "POST", headers=ACT, body=b"{}")
    assert (answer.status, answer.pool) == (404, "")


def accepted(system: System, gate: Gate) -> str:
    """The id of a job that is accepted, and runs."""
    answer = system.get(gate("/slow/task"), headers={"Prefer": "respond-async"})
    assert answer.status == 202
    gate.wait_for(1)
    return str(answer.headers["Location"].rpartition("/")[2])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
