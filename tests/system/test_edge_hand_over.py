"""What nginx does when a fast instance hands a request over to the slow pool."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import exchange, unanswered
from tests.support.http2 import Http2
from tests.support.upstream import HAND_OVER, Edge, Seen, answer, who

INTERNAL = ("x-slowpool-public", "x-slowpool-elapsed", "x-slowpool-streamed", "x-slowpool-asks")
BODIES = [("GET", None), ("HEAD", None), ("DELETE", None), ("GET", b"x"), ("PUT", b"x"), ("POST", b"x"),
          ("POST", b""), ("PATCH", b"x")]  # fmt: skip


HARMED = [("GET", None), ("PUT", b"x"), ("POST", b"x"), ("POST", b"")]
"""The same for tests that lose an instance."""


def handed(seen: Seen) -> bytes | None:
    """The fast pool hands everything over; ``die`` ends a slow instance, ``late`` is not answered."""
    if seen.pool is Pool.FAST:
        return HAND_OVER
    if "die" in seen.target:
        return None
    if "late" in seen.target:
        threading.Event().wait(20)
    return who(seen)


@pytest.fixture(scope="module")
def shared(connections: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(
        tmp_path_factory.mktemp("edge"), CLIENT_CONNECTIONS=connections, STREAM_PATHS="/upload"
    ) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    """For tests that lose no instance: nginx would avoid it for a while."""
    shared.reply = handed
    shared.seen.clear()
    return shared


@pytest.fixture
def frail(connections: int, tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path, handed, CLIENT_CONNECTIONS=connections, SLOW_TIMEOUT_SECONDS=1) as edge:
        yield edge


@pytest.mark.parametrize(("method", "body"), BODIES)
def test_the_slow_pool_gets_the_request_as_the_client_sent_it(
    edge: Edge, method: str, body: bytes | None
) -> None:
    headers = {"X-Mine": "kept", "Cookie": "a=b", "Host": "shop.example:81", "X-Request-ID": "mine"}
    response = edge.get("/a%2Fb//c?d=%2F&e", method, body=body, headers=headers)
    assert (response.status, response.pool) == (200, "slow")
    first, second = edge.seen
    assert (first.pool, second.pool) == (Pool.FAST, Pool.SLOW)
    assert (second.method, second.target, second.body) == (method, "/a%2Fb//c?d=%2F&e", body or b"")
    assert second.headers["x-slowpool-elapsed"] == "1.250"
    assert "x-slowpool-elapsed" not in first.headers
    added = {"x-slowpool-elapsed", "x-slowpool-asks", "content-length"}
    assert {name: value for name, value in second.headers.items() if name not in added} == {
        name: value for name, value in first.headers.items() if name not in added
    }


def test_a_large_body_of_unknown_length_is_passed_on_whole(edge: Edge) -> None:
    body = b"0123456789" * 100_000
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = exchange(edge.nginx.port, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert (response.status, response.pool) == (200, "slow")
    assert [seen.body for seen in edge.seen] == [body, body]


@pytest.mark.parametrize("target", ["/x", "/slow/x", "/upload"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_cannot_send_what_nginx_tells_an_instance(edge: Edge, target: str, method: str) -> None:
    edge.reply = who
    edge.get(target, method, headers=dict.fromkeys(INTERNAL, "mine"))
    (seen,) = edge.seen
    asks = "idle place" if target == "/slow/x" else None
    assert [seen.headers.get(name) for name in INTERNAL] == ["1", None, None, asks]


@pytest.mark.parametrize(("method", "body"), HARMED)
def test_only_a_get_is_tried_again_when_its_slow_instance_dies(
    frail: Edge, method: str, body: bytes | None
) -> None:
    frail.reply = lambda seen: None if seen.pool is Pool.SLOW and len(frail.seen) == 2 else handed(seen)
    assert frail.get("/x", method, body=body).status == (200 if method == "GET" else 502)
    assert [seen.pool for seen in frail.seen] == [Pool.FAST, *[Pool.SLOW] * (2 if method == "GET" else 1)]


def test_a_get_that_kills_its_slow_instances_does_not_reach_all(frail: Edge) -> None:
    assert frail.get("/die").status == 502
    assert len(frail.seen) <= 3


@pytest.mark.parametrize(("method", "body"), HARMED)
def test_every_request_finds_the_slow_instance_that_is_left(
    frail: Edge, method: str, body: bytes | None
) -> None:
    gone, left = frail.of(Pool.SLOW)
    gone.stop()
    for _ in range(4):
        response = frail.get("/x", method, body=body)
        assert response.headers["X-Served-By"] == f"slow:{left.port}"


@pytest.mark.parametrize(("method", "body"), HARMED)
def test_a_slow_pool_that_has_gone_is_503_with_retry_after(
    frail: Edge, method: str, body: bytes | None
) -> None:
    for instance in frail.of(Pool.SLOW):
        instance.stop()
    for target in ("/x", "/slow/x"):
        response = frail.get(target, method, body=body)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert response.problem()["detail"] == "no instance takes requests at the moment"


def test_a_refusal_of_a_slow_instance_is_passed_on(edge: Edge) -> None:
    edge.reply = lambda seen: (
        handed(seen) if seen.pool is Pool.FAST else answer("full", 503, Retry_After="7", X_Served_By="slow:1")
    )
    response = edge.get("/x")
    assert (response.status, response.headers["Retry-After"], response.text) == (503, "7", "full")


def test_the_answer_has_no_header_of_slowpools_own(edge: Edge) -> None:
    edge.reply = lambda seen: HAND_OVER if seen.pool is Pool.FAST else answer("x", X_Slowpool_Elapsed="1")
    headers = edge.get("/x").headers
    assert not [name for name in headers if name.lower().startswith(("x-slowpool", "x-accel"))]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_slow_instance_cannot_hand_over(edge: Edge, method: str) -> None:
    edge.reply = lambda _: HAND_OVER
    response = edge.get("/x", method)
    assert response.status >= 400
    assert [seen.pool for seen in edge.seen] == [Pool.FAST, Pool.SLOW]


@pytest.mark.parametrize(
    "location",
    ["/secret", "/slow/secret", "/-/once/slow", "/-/livez", "@fast_again", "@slow_again", "@fast_once_again",
     "@problem", "@no_answer", "@nowhere", "@ask_idle", "@ask_place", "@asked"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_other_x_accel_redirect_of_an_application_is_followed(
    edge: Edge, location: str, method: str
) -> None:
    edge.reply = lambda _: answer("x", X_Accel_Redirect=location)
    response = edge.get("/x", method)
    assert "X-Accel-Redirect" not in response.headers
    assert len(edge.seen) == 1


def test_the_slow_instance_notices_that_the_client_has_gone(edge: Edge) -> None:
    gone = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        if seen.pool is Pool.SLOW:
            assert seen.connection.recv(1) == b""
            gone.set()
        return handed(seen)

    edge.reply = reply
    with unanswered(edge.nginx.port, "/x"):
        edge.seen_by(Pool.SLOW, 1)
    assert gone.wait(30)


def test_a_part_of_an_answer_passes_as_it_comes_where_the_instance_says_so(edge: Edge) -> None:
    go_on = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        if seen.pool is Pool.FAST:
            return HAND_OVER
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Accel-Buffering: no\r\n\r\n"
        seen.connection.sendall(head + b"5\r\nfirst\r\n")
        go_on.wait(30)
        return b"5\r\nother\r\n0\r\n\r\n"

    edge.reply = reply
    with socket.create_connection(("127.0.0.1", edge.nginx.port), timeout=30) as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        for part in (b"first", b"other"):
            received = b""
            while part not in received:
                received += client.recv(1000)
            assert b"X-Accel" not in received
            go_on.set()


def test_one_client_has_no_more_slow_requests_open_than_it_may(
    edge: Edge, held: Callable[[], None], background: ThreadPoolExecutor
) -> None:
    allowed = [background.submit(edge.get, "/x", method) for method in ("GET", "POST", "PUT", "GET")]
    edge.seen_by(Pool.SLOW, 4)
    for target in ("/x", "/slow/x"):
        for method in ("GET", "POST"):
            response = edge.get(target, method)
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert response.problem()["detail"] == "this client has as many requests open as one may have"
    other = background.submit(edge.get, "/x", source="127.0.0.9")
    edge.seen_by(Pool.SLOW, 5)
    held()
    assert [answer.result().status for answer in (*allowed, other)] == [200] * 5
    assert edge.get("/x").pool == "slow"


def test_a_late_answer_is_504_and_the_request_is_not_sent_again(
    frail: Edge, background: ThreadPoolExecutor
) -> None:
    answers = [background.submit(frail.get, "/late", method) for method in ("GET", "POST")]
    for response in answers:
        assert response.result().status == 504
    assert len(frail.seen_by(Pool.SLOW)) == 2


@needs_openssl
def test_the_limit_holds_over_http_2_and_a_body_of_unknown_length_reaches_one_instance(
    tmp_path: Path,
) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    release = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        if "wait" in seen.target and seen.pool is Pool.SLOW:
            release.wait(20)
        return handed(seen)

    for limit in (0, 9):
        with (
            Edge(
                tmp_path / str(limit),
                reply,
                TLS_CERTIFICATE=certificate,
                TLS_KEY=key,
                SLOW_PER_CLIENT=1,
                CLIENT_CONNECTIONS=limit,
            ) as edge,
            Http2(edge.nginx.https_port, ssl.create_default_context(cafile=certificate)) as client,
        ):
            waiting = client.ask("/wait")
            (seen,) = edge.seen_by(Pool.SLOW, 1)
            assert seen.headers["x-forwarded-proto"] == "https"
            assert client.answer(client.ask("/x")).status == 429
            release.set()
            assert client.answer(waiting).pool == "slow"
            wait_until(lambda: client.answer(client.ask("/x")).pool == "slow")
            edge.seen.clear()
            assert client.answer(client.ask("/die", b"x")).status == 502
            assert [seen.body for seen in edge.seen_by(Pool.SLOW)] == [b"x"]
            release.clear()


@pytest.fixture
def held(edge: Edge) -> Iterator[Callable[[], None]]:
    """The slow instances do not answer until this is called."""
    release = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        if seen.pool is Pool.SLOW:
            release.wait(20)
        return handed(seen)

    edge.reply = reply
    yield release.set
    release.set()
