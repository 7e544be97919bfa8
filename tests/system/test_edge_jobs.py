"""What nginx does with what clients ask about accepted jobs."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import Response
from tests.support.http2 import Http2
from tests.support.upstream import Edge, Seen, answer, who

ID = "0123456789abcdef0123456789abcdef"
JOB = f"/slow/jobs/{ID}"
TARGETS = [JOB, f"{JOB}/result", f"{JOB}/events", f"{JOB}?x=%2F", "/slow/jobs/a-Z_9"]
METHODS = ["GET", "HEAD", "DELETE"]
OTHERS = ["/slow/jobs", "/slow/jobs/", f"{JOB}/", f"{JOB}/other", f"{JOB}/result/", f"{JOB}s/x", f"/x{JOB}",
          "/slow/jobs/a.b"]  # fmt: skip
MISSPELLED = [f"/{JOB}", f"/slow//jobs/{ID}", f"/slow/./jobs/{ID}", f"/slow/x/../jobs/{ID}", "/slow/jobs/%41",
              f"/%73low/jobs/{ID}", f"{JOB}//result"]  # fmt: skip
"""For nginx they are the path of a job, for an instance they can be the application's."""


@pytest.fixture(scope="module", params=["/reports", "/slow /slow/jobs", "/slow/jobs/ /slow/jobs/a-Z_9"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """With SLOW_PATHS and STREAM_PATHS that have nothing, or too much, to do with accepted jobs."""
    folder = tmp_path_factory.mktemp("edge")
    with Edge(folder, SLOW_PATHS=request.param, STREAM_PATHS="/up /slow/jobs") as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    shared.reply = who
    shared.seen.clear()
    return shared


def holding(release: threading.Event, seen: Seen) -> bytes:
    """The answer of an instance that keeps a request about a job until the test goes on."""
    if seen.target.startswith("/slow/jobs/"):
        release.wait(30)
    return who(seen)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_the_slow_pool_answers_as_the_client_has_asked_whatever_the_paths_are(
    edge: Edge, target: str, method: str
) -> None:
    response = edge.get(target, method, headers={"X-Mine": "kept", "X-Slowpool-Asks": "idle"})
    assert (response.status, response.pool) == (200, "slow")
    (seen,) = edge.seen
    assert (seen.method, seen.target, seen.headers["x-mine"]) == (method, target, "kept")
    assert seen.headers["x-slowpool-public"] == "1"
    assert not {"x-slowpool-asks", "x-slowpool-streamed"} & seen.headers.keys()


@pytest.mark.parametrize("target", MISSPELLED)
def test_another_spelling_reaches_no_instance(edge: Edge, target: str) -> None:
    response = edge.get(target)
    assert (response.status, response.pool) == (404, "")
    assert response.problem()
    assert edge.seen == []


@pytest.mark.parametrize(
    ("paths", "pool", "asks"), [("/reports", "fast", None), ("/slow /x", "slow", "idle place")]
)
def test_any_other_path_goes_where_slow_paths_say(
    tmp_path: Path, paths: str, pool: str, asks: str | None
) -> None:
    with Edge(tmp_path, SLOW_PATHS=paths) as edge:
        for target in OTHERS:
            edge.seen.clear()
            assert edge.get(target).pool == pool
            assert [seen.headers.get("x-slowpool-asks") for seen in edge.seen] == [asks]


def test_who_follows_jobs_can_still_make_slow_requests(
    tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    release = threading.Event()
    with Edge(tmp_path, lambda seen: holding(release, seen), SLOW_PER_CLIENT=1) as edge:
        following = [background.submit(edge.get, f"{JOB}/events") for _ in range(5)]
        edge.seen_by(Pool.SLOW, 5)
        assert edge.get("/slow").status == 200
        release.set()
        assert [one.result().status for one in following] == [200] * 5


def test_who_follows_jobs_has_no_more_requests_open_than_a_client_may(
    tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    release = threading.Event()
    with Edge(tmp_path, lambda seen: holding(release, seen), CLIENT_CONNECTIONS=3) as edge:
        following = [background.submit(edge.get, f"{JOB}/events") for _ in range(3)]
        edge.seen_by(Pool.SLOW, 3)
        for target in (JOB, "/x", "/slow"):
            response = edge.get(target)
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
        release.set()
        assert [one.result().status for one in following] == [200] * 3


def test_who_asks_too_often_about_a_job_is_refused(tmp_path: Path) -> None:
    with Edge(tmp_path, CLIENT_RATE=2) as edge:
        wait_until(lambda: edge.get(JOB).status == 429)


def test_who_is_followed_gets_no_fewer_slow_requests(tmp_path: Path, background: ThreadPoolExecutor) -> None:
    """An instance that many follow has as few jobs as one that nobody follows."""
    release = threading.Event()
    with Edge(tmp_path, lambda seen: holding(release, seen)) as edge:
        followed, other = edge.of(Pool.SLOW)
        other.stop()
        following = [background.submit(edge.get, f"{JOB}/events") for _ in range(4)]
        edge.seen_by(Pool.SLOW, 4)
        other.start()
        wait_until(lambda: edge.get("/slow").headers["X-Served-By"] == f"slow:{other.port}")  # not avoided
        ports = {edge.get("/slow").headers["X-Served-By"] for _ in range(4)}
        assert ports == {f"slow:{followed.port}", f"slow:{other.port}"}
        release.set()
        assert [one.result().status for one in following] == [200] * 4


def test_an_event_passes_as_it_comes(edge: Edge) -> None:
    go_on = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
        seen.connection.sendall(head + b"Connection: close\r\n\r\nid: 1\ndata: {}\n\n")
        go_on.wait(30)
        seen.connection.sendall(b"id: 2\ndata: {}\n\n")
        return None

    edge.reply = reply
    with socket.create_connection(("127.0.0.1", edge.nginx.port), timeout=30) as client:
        client.sendall(f"GET {JOB}/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while b"id: 1" not in received:
            received += client.recv(1000)
        assert b"id: 2" not in received
        go_on.set()
        while data := client.recv(1000):
            received += data
    assert b"id: 2" in received
    assert b"X-Accel" not in received


@pytest.mark.parametrize("method", METHODS)
def test_an_instance_that_has_gone_is_replaced(tmp_path: Path, method: str) -> None:
    with Edge(tmp_path, count=3) as edge:
        gone, dies, left = edge.of(Pool.SLOW)
        gone.stop()
        edge.reply = lambda seen: None if seen.port == dies.port else who(seen)
        for _ in range(4):
            assert edge.get(JOB, method).headers["X-Served-By"] == f"slow:{left.port}"


@pytest.mark.parametrize("method", [*METHODS, "POST"])
def test_a_request_that_kills_instances_is_502_and_one_that_finds_none_is_503(
    tmp_path: Path, method: str
) -> None:
    with Edge(tmp_path) as edge:
        edge.reply = lambda _: None
        assert edge.get(JOB, method).status == 502
        assert len(edge.seen) == (1 if method == "POST" else 2)
        for instance in edge.of(Pool.SLOW):
            instance.stop()
        response = edge.get(JOB, method)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")


def test_a_body_that_has_no_meaning_is_small(edge: Edge) -> None:
    assert edge.get(JOB, "DELETE", body=b"x" * 16_000).status == 200
    response = edge.get(JOB, "DELETE", body=b"x" * 17_000)
    assert (response.status, response.pool) == (413, "")


def test_no_answer_sends_a_request_on(edge: Edge) -> None:
    """A kept answer may have any header."""
    for location in ("@ask_idle", "@slow_elsewhere", "/x"):
        edge.seen.clear()
        edge.reply = lambda _: answer("kept", X_Accel_Redirect=location)  # noqa: B023  # used here
        response = edge.get(f"{JOB}/result")
        assert (response.status, response.text) == (200, "kept")
        assert "X-Accel-Redirect" not in response.headers
        assert len(edge.seen) == 1


def test_the_access_log_has_the_route_and_the_instance(edge: Edge) -> None:
    edge.reply = lambda seen: answer(X_Served_By=f"slow:{seen.port}", X_Slowpool_Route="/slow/jobs/{}")
    response = edge.get(f"{JOB}?secret")
    line = json.loads(edge.nginx.wait_for_output(response.headers["X-Request-ID"]))
    assert (line["path"], line["route"]) == (JOB, "/slow/jobs/{}")
    assert (line["status"], line["instance"]) == (200, response.headers["X-Served-By"])
    assert "X-Slowpool-Route" not in response.headers


@needs_openssl
def test_it_is_the_same_over_tls_and_http_2(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    tls: dict[str, Any] = {"TLS_CERTIFICATE": certificate, "TLS_KEY": key}
    with Edge(tmp_path / "edge", SLOW_PATHS="/reports", SLOW_PER_CLIENT=1, **tls) as edge:
        release = threading.Event()
        edge.reply = lambda seen: holding(release, seen)
        with Http2(edge.nginx.https_port, ssl.create_default_context(cafile=certificate)) as client:
            following = [client.ask(f"{JOB}/events") for _ in range(3)]
            edge.seen_by(Pool.SLOW, 3)
            assert client.answer(client.ask("/reports")).pool == "slow"
            release.set()
            answers: list[Response] = [client.answer(one) for one in following]
            assert [one.pool for one in answers] == ["slow"] * 3
            for method in METHODS:
                assert client.answer(client.ask(JOB, method=method)).pool == "slow"
