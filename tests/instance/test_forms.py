"""Forms that are made to block an instance. ``python -m tests.bench.forms`` measures the cost of each."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from slowpool.config import Pool
from tests.support.client import exchange, request
from tests.support.hostile_forms import (
    HONEST,
    HOSTILE,
    LARGE,
    LONGEST,
    HostileForm,
    content_type,
    filled,
)
from tests.support.process import Instance

UPLOADS = "tests.apps.uploads:make_app"


@pytest.fixture(scope="module")
def uploads() -> Iterator[Instance]:
    with Instance(Pool.FAST, APP=UPLOADS, FAST_BLOCK_BUDGET_SECONDS=0, expected=" 400 POST ") as instance:
        yield instance


@pytest.mark.parametrize("form", HOSTILE + HONEST, ids=lambda form: form.name)
def test_a_form_is_taken_or_refused_before_it_is_parsed(uploads: Instance, form: HostileForm) -> None:
    body = form.body()
    if len(body) > LARGE:  # more than MAX_BODY_BYTES: it is not even read
        with contextlib.suppress(ConnectionError):
            assert request(uploads.port, "/form", "POST", headers=form.headers, body=body).status == 400
        assert uploads.get("/-/livez").status == 200
        return
    answer = request(uploads.port, "/form", "POST", headers=form.headers, body=body)
    assert answer.status == form.status, answer
    if answer.status != 200:
        problem = answer.problem()
        assert problem["detail"]
        assert answer.headers["X-Served-By"] == f"fast:{uploads.port}"
    assert uploads.get("/-/livez").status == 200


@pytest.mark.parametrize("path", ["/form", "/nothing", "/-/livez", "/slow"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_hostile_form_is_refused_whatever_the_path_and_method(
    uploads: Instance, path: str, method: str
) -> None:
    form = HOSTILE[0]
    answer = request(uploads.port, path, method, headers=form.headers, body=form.body())
    assert answer.status == 400
    assert "boundary" in answer.problem()["detail"]


def test_a_refusal_keeps_the_connection_and_is_counted_and_logged(uploads: Instance) -> None:
    form = HOSTILE[0]
    body = form.body()
    head = (
        f"POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: {form.content_type}\r\nX-Request-ID: refused-1\r\n"
    )
    with socket.create_connection(("127.0.0.1", uploads.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.sendall(b"GET /-/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " in answers
    assert " 400 POST " in uploads.wait_for_output(r"slowpool.access \[refused-1\]")
    assert 'http_response_status_code="400"' in uploads.get("/-/metrics").text


def test_a_chunked_body_is_looked_at_too(uploads: Instance) -> None:
    form = next(form for form in HOSTILE if form.name == "no closing boundary, fewer hyphens")
    body = form.body()[:1_000_000]
    with socket.create_connection(("127.0.0.1", uploads.port), timeout=30) as connection:
        connection.sendall(
            b"POST /form HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
            + f"Content-Type: {form.content_type}\r\n\r\n{len(body):x}\r\n".encode()
            + body
            + b"\r\n0\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"closing boundary" in answer


def test_a_handler_that_takes_the_body_as_it_comes_gets_all_of_it(uploads: Instance) -> None:
    body = filled(b"-", 200 * 1024 * 1024)
    for kind in (content_type(LONGEST + b"-" * 100), "application/x-www-form-urlencoded"):
        answer = request(uploads.port, "/stream", "POST", headers={"Content-Type": kind}, body=body)
        assert answer.text == f"{len(body)} bytes"


def test_an_answer_says_that_its_connection_closes_when_the_body_has_not_arrived_yet(
    uploads: Instance,
) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx"
    early = exchange(uploads.port, head % b"/early")
    assert (early.text, early.headers["Connection"]) == ("early", "close")
    late = exchange(uploads.port, head % b"/stream" + b"x")
    assert (late.text, late.headers["Connection"]) == ("2 bytes", None)
    assert uploads.get("/headers").headers["Connection"] is None


def test_an_instance_answers_while_hostile_forms_come(
    uploads: Instance, background: ThreadPoolExecutor
) -> None:
    form = next(form for form in HOSTILE if form.name == "5 million fields")
    body = form.body()
    sent = [
        background.submit(request, uploads.port, "/form", "POST", headers=form.headers, body=body)
        for _ in range(4)
    ]
    answered = 0
    while not all(future.done() for future in sent):
        assert uploads.get("/-/livez").text == "ok"
        answered += 1
    assert [future.result().status for future in sent] == [400] * 4
    assert answered
