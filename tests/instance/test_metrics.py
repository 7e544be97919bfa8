"""The metrics of an instance, asked over HTTP."""

import math
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import exchange, request, unanswered
from tests.support.gate import Gate
from tests.support.metrics import scrape, value
from tests.support.process import Instance

REQUESTS = "http_server_request_duration_seconds_count"


def requests(instance: Instance, route: str, status: int, method: str = "GET", pool: str = "all") -> float:
    return value(
        instance,
        REQUESTS,
        http_request_method=method,
        http_route=route,
        http_response_status_code=str(status),
        pool=pool,
    )


@pytest.fixture
def watched() -> Iterator[Instance]:
    with Instance(
        APP="tests.apps.watched:make_app", SLOW_QUEUE=1, SLOW_TIMEOUT_SECONDS=20, expected=""
    ) as instance:
        yield instance


def test_requests_are_counted_by_the_template_of_their_route(watched: Instance) -> None:
    for name in ("tea", "coffee", "milk"):
        assert watched.get(f"/report/{name}?secret=1").status == 200
    assert requests(watched, "/report/{name}", 200) == 3
    assert watched.get("/report/tea", "POST").status == 405
    assert requests(watched, "/report/{name}", 405, method="POST") == 1
    assert watched.get("/no/such/path").status == 404
    assert requests(watched, "", 404) == 1
    assert watched.get("/report/tea", "BREW").status == 405
    assert requests(watched, "/report/{name}", 405, method="_OTHER") == 1
    assert "secret" not in watched.get("/-/metrics").text


def test_the_systems_own_routes_are_not_counted(watched: Instance) -> None:
    for path in ("/-/livez", "/-/readyz", "/-/metrics", "/-/status", "/-/status/static/status.js"):
        assert watched.get(path).status == 200
    assert not any(name == REQUESTS for name, _ in scrape(watched))
    assert value(watched, "http_server_active_requests", pool="all") == 0


def test_the_paths_of_other_servers_system_routes_are_the_applications(watched: Instance) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/status"):
        assert watched.get(path).status == 404
    assert requests(watched, "", 404) == 4


def test_a_request_is_active_until_it_is_answered_or_its_client_has_gone(watched: Instance) -> None:
    def active() -> float:
        return value(watched, "http_server_active_requests", pool="all")

    assert watched.get("/slow/task/own_pid").status == 200
    wait_until(lambda: active() == 0)
    with unanswered(watched.port, "/slow/task/sleep?seconds=1000"):
        wait_until(lambda: active() == value(watched, "slow_jobs_running") == 1)
    wait_until(lambda: active() == 0)


@pytest.fixture
def unusual() -> Iterator[Instance]:
    with Instance(
        Pool.FAST, APP="tests.apps.unusual:make_app", FAST_BLOCK_BUDGET_SECONDS=0.2, expected=""
    ) as instance:
        yield instance


def active_requests(instance: Instance) -> float:
    return value(instance, "http_server_active_requests", pool="fast")


def leave_upload(instance: Instance, target: str, *, active: int) -> None:
    """Begin to send a body, and close the connection in the middle of it."""
    with socket.create_connection(("127.0.0.1", instance.port), timeout=30) as connection:
        connection.sendall(b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx" % target.encode())
        wait_until(lambda: active_requests(instance) == active)


def test_a_request_is_not_active_once_its_handler_has_detached_the_connection(unusual: Instance) -> None:
    with socket.create_connection(("127.0.0.1", unusual.port), timeout=30) as connection:
        connection.sendall(b"GET /detaching HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(1000), b"")) == b"something else"
    wait_until(lambda: active_requests(unusual) == 0)
    assert requests(unusual, "/detaching", 101, pool="fast") == 1


def test_an_upload_whose_client_leaves_is_not_active_though_its_handler_fails_then(
    unusual: Instance, gate: Gate
) -> None:
    leave_upload(unusual, gate("/failing-to-leave"), active=1)
    gate.wait_for(1)
    wait_until(lambda: active_requests(unusual) == 0)
    unusual.wait_for_output("ZeroDivisionError: at the end of the connection")


def test_an_upload_that_is_to_be_handed_over_and_whose_client_leaves_is_not_active(
    unusual: Instance,
) -> None:
    assert unusual.get("/taking?seconds=0.6", "PUT", b"x").text == "taken"
    unusual.wait_for_output("/taking blocked its instance .* and goes to the slow pool")
    leave_upload(unusual, "/taking?seconds=0", active=1)
    wait_until(lambda: active_requests(unusual) == 0)
    assert "Traceback" not in unusual.output


def test_a_request_for_which_an_application_has_no_handler_at_all_is_answered_404(unusual: Instance) -> None:
    answer = exchange(unusual.port, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (answer.status, answer.body) == (404, b"")
    assert unusual.get("/none", "POST", b"x" * 1000).status == 404
    wait_until(lambda: active_requests(unusual) == 0)
    assert requests(unusual, "", 404, pool="fast") == 1


def test_each_job_is_counted_once_with_what_became_of_it(
    watched: Instance, background: ThreadPoolExecutor
) -> None:
    def jobs(outcome: str) -> float:
        return value(watched, "slow_jobs_total", outcome=outcome)

    assert watched.get("/slow/task/own_pid").status == 200
    assert watched.get("/slow/task/raises").status == 500
    assert watched.get("/slow/task/exits").status == 502
    late = request(watched.port, "/slow/task/sleep?seconds=1000", headers={"Prefer": "wait=1"})
    assert late.status == 504
    with unanswered(watched.port, "/slow/task/sleep?seconds=1000"):
        wait_until(lambda: value(watched, "slow_jobs_running") == 1)
        waiting = background.submit(watched.get, "/slow/task/own_pid")
        wait_until(lambda: value(watched, "slow_jobs_waiting") == 1)
        assert watched.get("/slow/task/own_pid").status == 503
    assert waiting.result().status == 200
    wait_until(lambda: jobs("cancelled") == 1)
    outcomes = {"ok": 2, "failed": 1, "timeout": 1, "cancelled": 1, "refused": 1, "died": 1}
    assert {outcome: jobs(outcome) for outcome in outcomes} == outcomes
    assert value(watched, "slow_job_run_seconds_count") == 6
    assert value(watched, "slow_job_wait_seconds_count") == 6
    assert value(watched, "slow_job_wait_seconds_sum") > 0
    assert value(watched, "slow_worker_restarts_total") == 3


def test_the_buckets_reach_past_the_deadline_and_the_process_and_its_loop_are_there(
    watched: Instance,
) -> None:
    watched.get("/report/tea")
    samples = scrape(watched)
    bounds = sorted(
        float(dict(labels)["le"]) for name, labels in samples if name == f"{REQUESTS[:-6]}_bucket"
    )
    assert bounds[0] <= 0.001
    assert bounds[-2] > 20
    assert bounds[-1] == math.inf
    assert value(watched, "process_resident_memory_bytes") > 10 << 20
    wait_until(lambda: value(watched, "event_loop_lag_seconds_count") > 10)
