"""Requests that turn out to be slow, on paths that are not slow by name, through nginx."""

import asyncio
import hashlib
import http.client
import json
import os
import re
import signal
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import Response, exchange, received, request, unanswered
from tests.support.gate import Gate
from tests.support.http2 import Http2
from tests.support.pool import is_dead
from tests.support.system import System, wait_until_whole
from tests.support.websocket import websocket

ANYWHERE = "tests.apps.anywhere:make_app"
SIZE = 3_000_000
ODD = "/seen/a%2Fb//c/%20%25;d?x=%2F&y=a+b&y="
LAST = "127.0.0.9"


@pytest.fixture(scope="module")
def anywhere() -> Iterator[System]:
    with System(APP=ANYWHERE, SLOW_PER_CLIENT=0, SLOW_QUEUE=2, SLOW_WORKERS=1) as system:
        yield system


@pytest.fixture
def sturdy(anywhere: System) -> System:
    """The same, whole again for each test, which may harm it."""
    wait_until_whole(anywhere, fast="/ok", slow="/seen")
    return anywhere


def waiting_jobs(port: int) -> float:
    """How many jobs wait in an instance."""
    (found,) = re.findall(r"^slow_jobs_waiting (\S+)", request(port, "/-/metrics").text, re.MULTILINE)
    return float(found)


def assert_from_the_slow_pool(response: Response) -> None:
    """The client sees one answer, and nothing of the way that it took."""
    assert (response.status, response.pool) == (200, "slow")
    for name in ("X-Served-By", "X-Request-ID", "X-Prepared", "Set-Cookie", "Content-Length"):
        assert len(response.headers.get_all(name) or []) == 1, name
    inner = [name for name in response.headers if name.lower().startswith(("x-accel", "x-slowpool"))]
    assert not inner


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("size", [0, SIZE])
def test_method_body_path_and_headers_arrive_in_the_slow_pool_as_they_were_sent(
    anywhere: System, method: str, size: int
) -> None:
    if method == "HEAD" and size:
        pytest.skip("no client sends one")
    body = os.urandom(size)
    name = f"handed-over-{method}-{size}"
    headers = {"X-Request-ID": name, "X-Custom": "a, b", "Cookie": "c=1; d=2", "Content-Type": "x/y"}
    response = anywhere.get(ODD, method, headers=headers, body=body or None, source=LAST)
    assert_from_the_slow_pool(response)
    assert response.headers["X-Request-ID"] == name
    if method == "HEAD":
        return
    seen = json.loads(response.body)
    assert (seen["method"], seen["uri"], seen["client"]) == (method, ODD, LAST)
    assert (seen["size"], seen["digest"]) == (size, hashlib.sha256(body).hexdigest())
    assert {header: seen["headers"][header] for header in ("X-Custom", "Cookie", "Content-Type")} == {
        "X-Custom": "a, b",
        "Cookie": "c=1; d=2",
        "Content-Type": "x/y",
    }
    assert not [header for header in seen["headers"] if "slowpool" in header.lower()]
    entry = anywhere.access_log(name)
    assert (entry["method"], entry["status"], entry["route"]) == (method, 200, "/seen{}")
    assert entry["instance"] == response.headers["X-Served-By"]
    assert entry["handed_over_by"].startswith("fast:")
    assert entry["run_seconds"] > 0
    assert anywhere.output.count(name) == 1


def test_a_chunked_body_arrives_whole(anywhere: System) -> None:
    body = os.urandom(SIZE)
    connection = http.client.HTTPConnection("127.0.0.1", anywhere.port, timeout=30)
    parts = iter([body[:10], body[10:1_000_000], body[1_000_000:]])
    connection.request("PUT", "/seen", parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    response = received(connection.getresponse())
    connection.close()
    assert_from_the_slow_pool(response)
    assert json.loads(response.body)["digest"] == hashlib.sha256(body).hexdigest()


def test_a_request_of_http_1_0_is_handed_over_too(anywhere: System) -> None:
    assert exchange(anywhere.port, b"GET /old HTTP/1.0\r\nHost: a\r\n\r\n").text == '{"old": true}'


@pytest.mark.parametrize("path", ["/catching", "/nested", "/old"])
def test_it_does_not_matter_how_a_handler_calls_run(anywhere: System, path: str) -> None:
    response = anywhere.get(path)
    assert (response.status, response.pool) == (200, "slow")


def test_a_client_cannot_hand_over_itself_or_lengthen_its_deadline(anywhere: System, gate: Gate) -> None:
    claims = {"X-Accel-Redirect": "@handed_over", "X-Slowpool-Elapsed": "59.9", "X-Slowpool-Streamed": "1"}
    assert anywhere.get("/ok", headers=claims).pool == "fast"
    gate.open()
    assert anywhere.get(gate("/wait"), headers=claims).text == "released"
    assert anywhere.get("/@handed_over").pool == "fast"


def test_the_client_that_goes_away_ends_the_job(anywhere: System, gate: Gate) -> None:
    with unanswered(anywhere.port, gate("/wait")):
        gate.wait_for(1)
    wait_until(lambda: all(map(is_dead, gate.entered)))
    anywhere.wait_for_output(r'whose job was given up".*"route": "/wait"')


def test_the_deadline_counts_from_the_first_arrival(anywhere: System, gate: Gate) -> None:
    """The handler takes two seconds in each pool before it calls run."""
    late = anywhere.get(f"{gate('/late')}&seconds=2", headers={"Prefer": "wait=3"})
    assert (late.status, late.pool) == (504, "slow")
    assert late.problem()
    assert gate.entered == []


def test_a_full_slow_pool_is_503_with_retry_after(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    places = 2 * (1 + 2)
    sent = [background.submit(sturdy.get, gate("/wait")) for _ in range(places)]
    wait_until(lambda: sum(map(waiting_jobs, sturdy.instances("slow"))) == 2 * 2)
    for method in ("GET", "POST"):
        refused = sturdy.get(gate("/wait"), method, body=b"x" if method == "POST" else None)
        assert (refused.status, refused.pool) == (503, "slow")
        assert int(refused.headers["Retry-After"]) in range(1, 61)
        assert "the slow pool is full" in refused.problem()["detail"]
    assert sturdy.get(gate("/own-page")).text == "sorry: 503"
    assert sturdy.get("/ok").text == "ok"
    gate.open()
    assert [one.result().text for one in sent] == ["released"] * places


@pytest.mark.parametrize(
    "method", ["POST", *(pytest.param(name, marks=pytest.mark.long) for name in ("GET", "HEAD"))]
)
def test_a_slow_pool_that_has_gone_is_503_with_retry_after(sturdy: System, method: str) -> None:
    sturdy.supervisor("stopProcessGroup", "slow")
    try:
        response = sturdy.get("/seen", method, body=b"x" if method == "POST" else None)
        assert (response.status, response.pool) == (503, "")
        assert response.headers["Retry-After"] == "1"
        if method != "HEAD":
            assert response.problem()["detail"] == "no instance takes requests at the moment"
        assert sturdy.get("/ok").text == "ok"
    finally:
        sturdy.supervisor("startProcessGroup", "slow")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_get_is_tried_again_when_its_slow_instance_dies_and_a_post_never(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor, method: str
) -> None:
    body = b"x" if method == "POST" else None
    answer = background.submit(sturdy.get, gate("/wait"), method, body=body)
    gate.wait_for(1)
    template = psutil.Process(psutil.Process(gate.entered[0]).ppid())
    os.kill(template.ppid(), signal.SIGKILL)
    if method == "GET":
        gate.wait_for(2)
        gate.open()
        assert answer.result().text == "released"
    else:
        assert answer.result().status == 502
        assert len(gate.entered) == 1


def test_a_worker_that_dies_is_502_and_nothing_runs_twice(
    anywhere: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(anywhere.get, gate("/wait"))
    gate.wait_for(1)
    os.kill(gate.entered[0], signal.SIGKILL)
    assert (answer.result().status, answer.result().pool) == (502, "slow")
    assert answer.result().problem()["detail"] == "the worker that ran the job died"
    assert len(gate.entered) == 1


def test_a_websocket_runs_jobs_where_slow_paths_lead_and_is_told_so_elsewhere(anywhere: System) -> None:
    async def say(path: str) -> str:
        async with websocket(f"ws://127.0.0.1:{anywhere.port}{path}") as connection:
            await connection.write_message("hello")
            return str(await connection.read_message())

    assert json.loads(asyncio.run(say("/slow/talk"))) == {"said": "hello"}
    assert "SLOW_PATHS" in asyncio.run(say("/talk"))


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two slow requests of a client at once, over HTTP/1.1 and HTTP/2."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder / "certificate", folder / "key")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HTTP2", "on")  # whatever the version of this machine's nginx
        system = System(
            APP=ANYWHERE,
            SLOW_PER_CLIENT=2,
            SLOW_WORKERS=2,
            TLS_CERTIFICATE=folder / "certificate",
            TLS_KEY=folder / "key",
        )
    with system:
        yield system


@needs_openssl
def test_slow_requests_of_a_client_are_counted_after_they_were_handed_over(
    limited: System, gate: Gate
) -> None:
    context = ssl.create_default_context(cafile=str(limited.settings["TLS_CERTIFICATE"]))
    port = int(str(limited.settings["HTTPS_PORT"]))
    with Http2(port, context) as client:
        allowed = [client.ask(gate("/wait")) for _ in range(2)]
        gate.wait_for(2)
        refused = client.answer(client.ask(gate("/wait")))
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert client.answer(client.ask("/ok")).text == "ok"
        gate.open()
        assert [client.answer(stream).text for stream in allowed] == ["released"] * 2
        again = client.answer(client.ask(gate("/wait")))
        assert (again.status, again.text) == (200, "released")


@needs_openssl
def test_one_of_many_streams_of_a_client_that_is_cancelled_ends_its_job_and_no_other(
    limited: System, gate: Gate, tmp_path: Path
) -> None:
    other = Gate(tmp_path / "other")
    context = ssl.create_default_context(cafile=str(limited.settings["TLS_CERTIFICATE"]))
    with Http2(int(str(limited.settings["HTTPS_PORT"])), context) as client:
        kept, cancelled = client.ask(other("/wait")), client.ask(gate("/wait"))
        for one in (gate, other):
            one.wait_for(1)
        client.cancel(cancelled)
        wait_until(lambda: all(map(is_dead, gate.entered)))
        other.open()
        assert client.answer(kept).text == "released"


def test_routes_that_have_blocked_each_fast_instance_block_none_any_more(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    while sturdy.output.count("/stall/{} blocked its instance") < len(sturdy.instances("fast")):
        assert sturdy.get("/stall/tea?seconds=0.6").status == 200
    assert sturdy.output.count("and goes to the slow pool for now") == len(sturdy.instances("fast"))
    stalled = [background.submit(sturdy.get, gate(f"/stall/{number}")) for number in range(4)]
    gate.wait_for(len(sturdy.instances("slow")))  # each blocks one
    for _ in range(100):
        assert (sturdy.get("/ok").status, sturdy.get("/ok").pool) == (200, "fast")
    assert not any(one.done() for one in stalled)
    gate.open()
    assert {one.result().pool for one in stalled} == {"slow"}
    assert sorted(one.result().text for one in stalled) == [f"stalled ('{number}',)" for number in range(4)]
