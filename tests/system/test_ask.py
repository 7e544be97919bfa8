"""Requests that meet a busy or full slow instance while another one has an idle worker, through nginx."""

import contextlib
import hashlib
import http.client
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.basics import wait_until
from tests.support.client import Response, opened, received, request, unanswered
from tests.support.gate import Gate
from tests.support.pool import is_dead
from tests.support.system import System, wait_until_whole

READERS = 3
WAYS = ["/slow", ""]
"""The beginning of paths of the slow pool, and of paths that are handed over to it."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System(
        APP="tests.apps.anywhere:make_app", SLOW_PER_CLIENT=0, SLOW_WORKERS=1, SLOW_QUEUE=1
    ) as system:
        yield system


@pytest.fixture
def whole(system: System) -> System:
    """A system whose instances know that these routes run jobs, and have an idle worker each."""
    wait_until_whole(system, fast="/ok", slow="/slow/seen")
    for port in system.instances("slow"):
        wait_until(lambda: is_idle(port))  # noqa: B023  # waits here
        for path in ("/seen", "/slow/hooks?folder=/tmp", "/hooks?folder=/tmp"):
            assert request(port, path).status == 200
    return system


@dataclass
class Lopsided:
    """``busy`` has the fewest connections, and its worker has a job; ``idle`` holds those of slow readers."""

    system: System
    busy: int
    idle: int
    gate: Gate
    background: ThreadPoolExecutor
    held: list[Future[Response]]

    def fill(self) -> None:
        """Have a job wait in the busy one too, so it is full."""
        self.held.append(self.background.submit(request, self.busy, self.gate("/wait")))
        wait_until(lambda: metric(self.busy, "slow_jobs_waiting") == 1)


@pytest.fixture
def lopsided(whole: System, background: ThreadPoolExecutor, tmp_path: Path) -> Iterator[Lopsided]:
    busy, idle = whole.instances("slow")
    gate = Gate(tmp_path / "busy")
    with contextlib.ExitStack() as readers:
        others = readers.enter_context(contextlib.ExitStack())
        for _ in range(2 * READERS):  # each goes to the one with fewer
            with contextlib.ExitStack() as reader:
                response = reader.enter_context(opened(whole.port, "/slow/large"))
                kept = response.headers["X-Served-By"] == f"slow:{idle}"
                (readers if kept else others).push(reader.pop_all())
        others.close()
        wait_until(lambda: metric(busy, "http_server_active_requests", pool="slow") == 0)
        held = [background.submit(whole.get, gate("/slow/wait"))]
        gate.wait_for(1)
        assert metric(busy, "slow_jobs_running") == 1
        yield Lopsided(whole, busy, idle, gate, background, held)
        gate.open()
        assert {one.result().text for one in held} == {"released"}


def metric(port: int, name: str, **labels: str) -> float:
    """The sum of an instance's samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(request(port, "/-/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def is_idle(port: int) -> bool:
    """Whether an instance has an idle worker."""
    return request(port, "/-/ask/idle").status == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("full", [False, True], ids=["busy", "full"])
@pytest.mark.parametrize("chunked", [False, True], ids=["post", "chunked put"])
def test_a_request_with_its_body_is_answered_by_the_instance_that_has_an_idle_worker(
    lopsided: Lopsided, way: str, full: bool, chunked: bool
) -> None:
    if full:
        lopsided.fill()
    body = os.urandom(3_000_000)
    target = f"{way}/seen/a%2Fb//c?x=%2F&y"
    if chunked:
        connection = http.client.HTTPConnection("127.0.0.1", lopsided.system.port, timeout=30)
        headers = {"Transfer-Encoding": "chunked"}
        connection.request("PUT", target, iter([body[:10], body[10:]]), headers, encode_chunked=True)
        response = received(connection.getresponse())
        connection.close()
    else:
        response = lopsided.system.get(target, "POST", body=body)
    assert (response.status, response.headers["X-Served-By"]) == (200, f"slow:{lopsided.idle}")
    seen = json.loads(response.body)
    assert (seen["method"], seen["uri"]) == ("PUT" if chunked else "POST", target)
    assert (seen["size"], seen["digest"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert not [name for name in seen["headers"] if "slowpool" in name.lower()]
    for name in ("X-Served-By", "X-Request-ID", "X-Prepared", "Set-Cookie", "Content-Length"):
        assert len(response.headers.get_all(name) or []) == 1, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("full", [False, True], ids=["busy", "full"])
def test_a_handler_of_a_known_route_runs_once_in_the_slow_pool(
    lopsided: Lopsided, gate: Gate, way: str, full: bool
) -> None:
    if full:
        lopsided.fill()
    response = lopsided.system.get(gate(f"{way}/hooks"), "GET")
    assert (response.text, response.headers["X-Served-By"]) == ("done", f"slow:{lopsided.idle}")
    runs = 1 if way else 2  # with the one in the fast pool
    wait_until(lambda: hooks(gate).count("on_finish 200") == runs)
    assert [hooks(gate).count(hook) for hook in ("initialize", "prepare", "get")] == [runs] * 3


def hooks(gate: Gate) -> list[str]:
    """The hooks that have been called."""
    return (gate.folder / "hooks").read_text().splitlines()


@pytest.mark.parametrize("path", ["/own-page", "/leaving"])
def test_a_full_instance_sends_a_request_on_though_it_does_not_know_the_route(
    lopsided: Lopsided, gate: Gate, path: str
) -> None:
    lopsided.fill()
    gate.open()
    response = lopsided.system.get(gate(path))
    assert (response.text, response.headers["X-Served-By"]) == ("released", f"slow:{lopsided.idle}")


def test_a_request_counts_once_wherever_it_has_been(lopsided: Lopsided) -> None:
    def answered(port: int) -> float:
        return metric(port, "http_server_request_duration_seconds_count", http_route="/slow/seen{}")

    def asks(port: int) -> float:
        return metric(port, "slow_asks_total", ask="idle")

    ports = (lopsided.busy, lopsided.idle)
    before = [(answered(port), asks(port)) for port in ports]
    lopsided.system.get("/slow/seen", headers={"X-Request-ID": "asked-for"})
    after = [(answered(port), asks(port)) for port in ports]
    assert after == [(before[0][0], before[0][1] + 1), (before[1][0] + 1, before[1][1])]
    assert metric(lopsided.busy, "http_server_active_requests") == 1
    entry = lopsided.system.access_log("asked-for")
    assert (entry["method"], entry["status"]) == ("GET", 200)
    assert (entry["route"], entry["instance"]) == ("/slow/seen{}", f"slow:{lopsided.idle}")
    assert lopsided.system.output.count("asked-for") == 1


def test_a_request_waits_where_it_was_when_no_worker_is_idle_and_is_refused_when_all_are_full(
    lopsided: Lopsided, gate: Gate, background: ThreadPoolExecutor
) -> None:
    get = lopsided.system.get
    running = background.submit(get, gate("/slow/wait"))
    gate.wait_for(1)
    waiting = [background.submit(get, gate("/slow/wait"), "POST") for _ in range(2)]
    for port in (lopsided.busy, lopsided.idle):  # though the busy one has the fewest connections
        wait_until(lambda: metric(port, "slow_jobs_waiting") == 1)  # noqa: B023  # waits here
    for method in ("GET", "POST"):
        for way in WAYS:
            refused = get(f"{way}/seen", method, body=b"x" if method == "POST" else None)
            assert (refused.status, refused.pool) == (503, "slow")
            assert int(refused.headers["Retry-After"]) in range(1, 61)
            assert "the slow pool is full" in refused.problem()["detail"]
    assert get("/ok").text == "ok"
    gate.open()
    lopsided.gate.open()
    assert [one.result().text for one in (running, *waiting)] == ["released"] * 3


def test_a_request_waits_or_is_refused_when_the_other_instances_have_gone(
    whole: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    left, gone = whole.instances("slow")
    whole.supervisor("stopProcess", f"slow:slow-{gone}")
    try:
        running = background.submit(whole.get, gate("/slow/wait"))
        gate.wait_for(1)
        waiting = background.submit(whole.get, gate("/slow/wait"), "POST")
        wait_until(lambda: metric(left, "slow_jobs_waiting") == 1)
        refused = whole.get("/slow/seen", "POST", body=b"x")
        assert (refused.status, refused.headers["X-Served-By"]) == (503, f"slow:{left}")
        gate.open()
        assert [one.result().text for one in (running, waiting)] == ["released"] * 2
    finally:
        whole.supervisor("startProcess", f"slow:slow-{gone}")


def test_a_client_that_goes_away_ends_the_job_where_it_runs(lopsided: Lopsided, gate: Gate) -> None:
    with unanswered(lopsided.system.port, gate("/slow/wait")):
        gate.wait_for(1)
        assert metric(lopsided.idle, "slow_jobs_running") == 1
    wait_until(lambda: all(map(is_dead, gate.entered)))


def test_what_a_client_sends_asks_for_nothing(lopsided: Lopsided) -> None:
    for path in ("/-/ask/idle", "/-/ask/place", "/x/../-/ask/idle"):
        assert lopsided.system.get(path).status == 404
    claims = {"X-Slowpool-Asks": "none", "X-Accel-Redirect": "@ask_idle"}
    response = lopsided.system.get("/slow/seen", headers=claims)
    assert response.headers["X-Served-By"] == f"slow:{lopsided.idle}"
