"""nginx's own errors: each a problem with the request's id."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.client import exchange
from tests.support.gate import Gate
from tests.support.system import System

CONTROLLED = "tests.apps.controlled:make_app"
TITLES = {  # RFC 9110 and 6585
    400: "Bad Request",
    405: "Method Not Allowed",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}


@pytest.mark.parametrize(
    "path",
    ["/-/livez", "/-/metrics", "/-/status", "/-/", "/-/x", "//-/livez", "/%2D/readyz", "/%2d%2fmetrics",
     "/x/../-/readyz", "/./-/livez", "/-/once/fast", "/-/websocket/slow", "/-/problem", "/-//livez",
     "/slow/../-/livez"],
)  # fmt: skip
def test_slowpools_own_routes_are_404_on_the_public_port(system: System, path: str) -> None:
    response = system.get(path)
    assert response.status == 404
    assert response.pool == ""
    assert response.problem()["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/-/../fast?id=7", "/-/livez/../../fast?id=7"])
def test_an_instance_refuses_a_path_below_its_own_that_nginx_understands_differently(
    system: System, path: str
) -> None:
    response = system.get(path)
    assert (response.status, response.pool) == (404, "fast")
    assert response.problem()["title"] == "Not Found"


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"GET /fast?id=7 HTTP/1.1\r\n\r\n"),
        (400, b"GET /fast?id=7 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"POST /fast HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        (400, b"POST /fast HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (405, b"TRACE /fast HTTP/1.1\r\nHost: a\r\n\r\n"),
        (413, b"POST /fast HTTP/1.1\r\nHost: a\r\nContent-Length: 20971521\r\n\r\n"),
        (413, b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n"),
        (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (431, b"GET /fast HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n"),
        (431, b"GET /slow HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 9000 + b"\r\n\r\n"),
        (501, b"POST /fast HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip\r\n\r\n"),
        (505, b"GET /fast HTTP/3.0\r\nHost: a\r\n\r\n"),
    ],
)
def test_what_is_no_request_for_an_instance_is_answered_by_nginx(
    system: System, status: int, data: bytes
) -> None:
    response = exchange(system.port, data)
    assert response.status == status
    assert response.pool == ""
    assert response.problem()["title"] == TITLES[status]
    assert "nginx/" not in response.headers["Server"]


def test_a_header_that_is_too_large_is_answered_once_per_connection_and_the_next_works(
    system: System,
) -> None:
    exchange(system.port, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n")
    assert system.get("/fast?id=7").status == 200


@pytest.mark.parametrize(
    ("pool", "target", "other"),
    [("slow", "/slow/echo", "/echo"), pytest.param("fast", "/echo", "/slow/echo", marks=pytest.mark.long)],
)
def test_a_pool_without_an_instance_is_503_with_retry_after_and_comes_back(
    sturdy: System, pool: str, target: str, other: str
) -> None:
    sturdy.supervisor("stopProcessGroup", pool)
    for method in ("GET", "POST", "GET"):  # also when nginx has noticed
        response = sturdy.get(target, method)
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert response.problem()["detail"] == "no instance takes requests at the moment"
        assert sturdy.get(other).status == 200
    sturdy.supervisor("startProcessGroup", pool)
    wait_until(lambda: sturdy.get(target).status == 200)


def test_a_post_whose_instance_is_killed_is_502_and_is_not_sent_again(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(sturdy.get, gate("/wait"), "POST", body=b"x")
    gate.wait_for(1)
    os.kill(gate.entered[0], signal.SIGKILL)
    response = answer.result()
    assert response.status == 502
    assert response.problem()["detail"] == "the instance ended while it had the request"
    assert "Retry-After" not in response.headers
    assert len(sturdy.access_log(response.headers["X-Request-ID"])["upstream"].split(",")) == 1
    assert len(gate.entered) == 1


@pytest.mark.parametrize("path", ["/wait", "/slow/block", "/slow/task"])
def test_a_get_whose_instance_is_killed_is_answered_by_another(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor, path: str
) -> None:
    answer = background.submit(sturdy.get, gate(path))
    gate.wait_for(1)
    first = gate.entered[0]
    if path == "/slow/task":  # in a worker, whose parent is the template
        first = psutil.Process(psutil.Process(first).ppid()).ppid()
    os.kill(first, signal.SIGKILL)
    gate.wait_for(2)
    gate.open()
    response = answer.result()
    assert (response.status, response.text) == (200, "released")
    assert len(set(gate.entered)) == 2


@pytest.mark.long  # test_edge_hand_over.py has it without instances
def test_an_instance_that_does_not_answer_in_time_is_504_and_the_request_is_not_sent_again(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with System(APP=CONTROLLED, SLOW_TIMEOUT_SECONDS=1, SLOW_PROCESSES=3) as system:
        answers = [background.submit(system.get, gate("/slow/block"), method) for method in ("GET", "POST")]
        for answer in answers:
            response = answer.result()
            assert response.status == 504
            assert response.problem()["detail"] == "the instance did not answer in time"
        gate.open()
    assert len(gate.entered) == 2
