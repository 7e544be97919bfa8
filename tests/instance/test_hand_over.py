"""A request that turns out to be slow, as one instance of a pool sees it."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request, unanswered
from tests.support.gate import Gate
from tests.support.metrics import scrape, value
from tests.support.pool import is_dead
from tests.support.process import Instance
from tests.support.websocket import websocket

ANYWHERE = "tests.apps.anywhere:make_app"
UNUSUAL = "tests.apps.unusual:make_app"
OUTCOMES = r"whose job is late|Uncaught exception|CannotHandOver|^Traceback| 50[024] "
"""What the log of an instance may have whose handlers fail."""


@pytest.fixture(scope="module")
def fast() -> Iterator[Instance]:
    with Instance(Pool.FAST, APP=ANYWHERE, expected=OUTCOMES) as instance:
        yield instance


@pytest.fixture(scope="module")
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP=ANYWHERE, SLOW_WORKERS=2, expected=OUTCOMES) as instance:
        yield instance


@pytest.fixture(scope="module")
def unusual_fast() -> Iterator[Instance]:
    with Instance(Pool.FAST, APP=UNUSUAL) as instance:
        yield instance


@pytest.fixture(scope="module")
def unusual_slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP=UNUSUAL, SLOW_WORKERS=2) as instance:
        yield instance


def assert_handed_over(response: Response, instance: Instance) -> None:
    """The answer tells nginx where to go, and has nothing of the handler's."""
    assert (response.status, response.body) == (200, b"")
    assert response.headers["X-Accel-Redirect"] == "@handed_over"
    assert 0 <= float(response.headers["X-Slowpool-Elapsed"]) < 30
    assert response.headers["Content-Length"] == "0"
    assert response.headers["X-Served-By"] == f"fast:{instance.port}"
    theirs = {"X-Prepared", "Set-Cookie", "X-Worker", "Content-Type", "Etag", "Transfer-Encoding"}
    assert not theirs & set(response.headers.keys())


@pytest.mark.parametrize("path", ["/seen/a?b=%2F", "/catching", "/nested", "/old"])
def test_a_fast_instance_hands_over_a_request_that_runs_a_job(fast: Instance, path: str) -> None:
    assert_handed_over(fast.get(path), fast)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_it_does_so_whatever_the_method_and_the_body(fast: Instance, method: str, size: int) -> None:
    assert_handed_over(fast.get("/seen", method, b"x" * size), fast)


def test_a_connection_is_good_for_more_requests_after_one_that_was_handed_over(fast: Instance) -> None:
    with socket.create_connection(("127.0.0.1", fast.port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(b"GET /seen HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = connection.recv(65_536)
            assert b"X-Accel-Redirect: @handed_over\r\n" in answer
            assert answer.endswith(b"\r\n\r\n")
        connection.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(65_536), b"")).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("path", ["/pair", "/stubborn"])
def test_a_request_that_runs_several_jobs_is_handed_over_once(unusual_fast: Instance, path: str) -> None:
    port = unusual_fast.port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        answers = connection.recv(65_536)
        # Whatever else comes for the first request comes before the answer to the second, or in its place.
        connection.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers += b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b"HTTP/1.1") == 2
    assert answers.count(b"X-Accel-Redirect: @handed_over\r\n") == 1
    assert answers.endswith(b"\r\n\r\nok")


def test_a_job_of_a_part_of_a_body_is_handed_over_with_the_whole_body(unusual_fast: Instance) -> None:
    assert_handed_over(unusual_fast.get("/parts", "PUT", b"x" * 500_000), unusual_fast)
    assert unusual_fast.get("/ok").text == "ok"


def test_a_job_of_a_part_of_a_body_runs_while_the_rest_is_awaited(unusual_slow: Instance) -> None:
    assert unusual_slow.get("/parts", "PUT", b"x" * 500_000).text == "500000 bytes"


def test_an_application_sends_nginx_nowhere_else(unusual_fast: Instance) -> None:
    answer = unusual_fast.get("/redirecting")
    assert (answer.text, answer.headers["X-Accel-Redirect"]) == ("redirected", None)


def test_a_task_may_have_an_argument_of_any_name(unusual_slow: Instance) -> None:
    assert unusual_slow.get("/named").text == "task 7"


def test_the_times_of_an_application_are_kept_beside_those_of_its_jobs(unusual_slow: Instance) -> None:
    own, jobs = unusual_slow.get("/timing").headers.get_all("Server-Timing", [])
    assert own == "db;dur=5"
    assert jobs.startswith("queue;dur=")


@pytest.mark.parametrize("path", ["/upload", "/eager"])
def test_a_body_that_is_taken_as_it_comes_is_read_to_its_end_first(fast: Instance, path: str) -> None:
    assert_handed_over(fast.get(path, "PUT", b"x" * 5_000_000), fast)


@pytest.mark.parametrize("path", ["/upload", "/eager"])
def test_a_body_that_nginx_does_not_keep_cannot_be_handed_over(fast: Instance, path: str) -> None:
    headers = {"X-Slowpool-Streamed": "1", "X-Request-ID": f"streamed{path[1:]}"}
    answer = request(fast.port, path, "PUT", headers=headers, body=b"x" * 100_000)
    assert answer.status == 500
    fast.wait_for_output("nginx does not keep bodies of STREAM_PATHS: add the path to SLOW_PATHS too")


def test_each_hook_of_a_handler_that_is_handed_over_is_called_once(fast: Instance, gate: Gate) -> None:
    assert_handed_over(fast.get(gate("/hooks")), fast)
    wait_until(lambda: hooks(gate)[-1].startswith("on_finish"))
    assert hooks(gate) == ["initialize", "prepare", "get", "on_finish 200"]


def hooks(gate: Gate) -> list[str]:
    """The hooks that have been called."""
    return (gate.folder / "hooks").read_text().splitlines()


def test_after_the_answer_has_begun_the_error_says_what_to_do(fast: Instance) -> None:
    response = fast.get("/begun")
    assert response.status == 200
    assert response.text.startswith("begun slowpool.run cannot hand the request over to the slow pool: ")
    assert "SLOW_PATHS" in response.text
    assert response.headers["X-Accel-Redirect"] is None


def test_a_websocket_of_a_fast_instance_is_told_what_to_do(fast: Instance) -> None:
    text = asyncio.run(say(fast, "/talk"))
    assert text.startswith("slowpool.run cannot hand the request over to the slow pool: ")
    assert "SLOW_PATHS" in text


def test_a_websocket_of_a_slow_instance_runs_jobs(slow: Instance) -> None:
    assert json.loads(asyncio.run(say(slow, "/slow/talk"))) == {"said": "hello"}


async def say(instance: Instance, path: str) -> str:
    """What a WebSocket answers; it has to answer more than once."""
    async with websocket(f"ws://127.0.0.1:{instance.port}{path}") as connection:
        for _ in range(2):
            await connection.write_message("hello")
            answer = await connection.read_message()
        return str(answer)


def test_a_request_that_was_handed_over_is_counted_as_such_and_not_answered_here(fast: Instance) -> None:
    def handed_over() -> float:
        return value(fast, "requests_handed_over_total", http_route="/old")

    before = handed_over()
    request(fast.port, "/old", headers={"X-Request-ID": "handed-over"})
    request(fast.port, "/ok", headers={"X-Request-ID": "answered"})
    fast.wait_for_output(r"\[answered\] 200 GET /ok")
    assert handed_over() == before + 1
    assert value(fast, "http_server_active_requests", pool="fast") == 0
    assert not [labels for _, labels in scrape(fast) if ("http_route", "/old") in labels and len(labels) > 2]
    assert "[handed-over]" not in fast.output


@pytest.mark.parametrize("pool", [Pool.SLOW, Pool.ALL])
def test_everywhere_else_the_job_runs_where_the_request_is(slow: Instance, pool: Pool) -> None:
    with Instance(pool, APP=ANYWHERE) as instance:
        for path, text in (("/nested", "True"), ("/old", '{"old": true}'), ("/slow/begun", "begun and done")):
            assert instance.get(path).text == text
        seen = instance.get("/seen/a?b=%2F", "POST", b"body")
        assert seen.headers["X-Prepared"] == "yes"
        assert json.loads(seen.body)["uri"] == "/seen/a?b=%2F"
        assert int(seen.headers["X-Worker"]) != instance.pid
        assert re.fullmatch(r"queue;dur=[0-9.]+, run;dur=[0-9.]+", seen.headers["Server-Timing"])
        assert json.loads(instance.get("/upload", "PUT", b"x" * 100_000).text) == {"size": 100_000}


def test_the_deadline_counts_from_the_first_arrival(slow: Instance, gate: Gate) -> None:
    late = request(slow.port, gate("/wait"), headers={"X-Slowpool-Elapsed": "59.5"})
    assert late.status == 504
    assert late.problem()["detail"]
    preferring = {"X-Slowpool-Elapsed": "10", "Prefer": "wait=5"}
    assert request(slow.port, gate("/wait"), headers=preferring).status == 504
    gate.open()
    for elapsed in ("", "soon", "-100", "0.5", "nan"):
        answer = request(slow.port, gate("/wait"), headers={"X-Slowpool-Elapsed": elapsed})
        assert (answer.status, answer.text) == (200, "released")


def test_the_jobs_of_a_request_end_with_its_answer(slow: Instance, gate: Gate) -> None:
    assert slow.get(gate("/forgotten")).text == "answered"
    wait_until(lambda: value(slow, "slow_jobs_running") + value(slow, "slow_jobs_waiting") == 0)
    assert all(map(is_dead, gate.entered))


def test_a_client_that_goes_away_ends_the_job_though_its_handler_is_not_told(
    slow: Instance, gate: Gate
) -> None:
    with unanswered(slow.port, gate("/leaving")):
        gate.wait_for(1)
    wait_until(lambda: all(map(is_dead, gate.entered)))
    wait_until((gate.folder / "gone").exists)
    slow.wait_for_output(" 499 GET /leaving ")


def test_an_error_is_the_page_of_a_handler_that_has_its_own(slow: Instance, gate: Gate) -> None:
    late = request(slow.port, gate("/own-page"), headers={"Prefer": "wait=1"})
    assert (late.status, late.text) == (504, "sorry: 504")


def test_a_draining_instance_still_hands_over() -> None:
    with Instance(Pool.FAST, APP=ANYWHERE) as instance:
        with socket.create_connection(("127.0.0.1", instance.port), timeout=30) as connection:
            connection.sendall(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
            wait_until(lambda: value(instance, "http_server_active_requests", pool="fast") == 1)
            instance.terminate()
            instance.wait_for_output("drains")
            connection.sendall(b"x")
            answer = connection.recv(65_536)
        assert b"X-Accel-Redirect: @handed_over\r\n" in answer
        assert b"Connection: close\r\n" in answer
        assert instance.wait() == 0
