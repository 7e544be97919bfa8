"""How many large bodies one client may have open at nginx."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import Response
from tests.support.http2 import Http2
from tests.support.upstream import HAND_OVER, Edge, Seen, answer, who

LARGE, MEDIUM, SMALL = b"x" * 250_000, b"x" * 10_000, b"x" * 9_999
LENGTH, CHUNKED = "Content-Length: 250000", "Transfer-Encoding: chunked"
OTHER = "127.0.0.9"


@pytest.fixture(scope="module")
def shared(connections: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    with Edge(
        folder, CLIENT_UPLOADS=1, CLIENT_CONNECTIONS=connections, STREAM_PATHS="/upload /slow/upload"
    ) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    shared.reply = who
    shared.seen.clear()
    wait_until(lambda: post(shared).status == 200)  # the test before has closed its connections
    return shared


def post(edge: Edge, body: bytes = LARGE, path: str = "/x", source: str = "") -> Response:
    return edge.get(path, "POST", body=body, source=source)


@pytest.fixture
def uploading(edge: Edge) -> Iterator[Callable[..., None]]:
    """Begins a request from 127.0.0.1 whose body does not arrive; returns when nginx has counted it."""
    with ExitStack() as stack:

        def begin(header: str, path: str = "/x") -> None:
            def is_taken() -> bool:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", edge.nginx.port)))
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{header}\r\n\r\n"
                client.sendall(head.encode())
                status = client.recv(1000).split()[1]
                assert status in (b"100", b"429")  # nginx may still count the request before this one
                client.sendall(b"1")
                return status == b"100"

            wait_until(is_taken)

        yield begin


def assert_refused(response: Response) -> None:
    assert (response.status, response.headers["Retry-After"], response.pool) == (429, "1", "")
    assert "as many with a large body" in response.problem()["detail"]


@pytest.mark.parametrize("path", ["/x", "/slow/x"])
@pytest.mark.parametrize("header", [LENGTH, CHUNKED, "Content-Length: 0001000000"])
def test_a_client_whose_large_body_is_open_sends_no_other_and_holds_up_nobody_else(
    edge: Edge, uploading: Callable[..., None], header: str, path: str
) -> None:
    uploading(header, path)
    for target in ("/x", "/slow/x"):
        assert_refused(post(edge, LARGE, target))
        assert edge.get(target).status == 200
        assert post(edge, MEDIUM, target).status == 200
        assert post(edge, LARGE, target, OTHER).status == 200
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert edge.get("/x", headers=upgrade).status == 200


def test_twenty_times_as_many_may_be_smaller_and_small_ones_are_not_counted(
    edge: Edge, uploading: Callable[..., None]
) -> None:
    for _ in range(19):
        uploading("Content-Length: 10000")
    assert post(edge, MEDIUM).status == 200
    for _ in range(20):
        uploading("Content-Length: 9999")
    uploading("Content-Length: 249999")
    assert_refused(post(edge, MEDIUM))
    assert post(edge, SMALL).status == 200
    assert post(edge, LARGE).status == 200
    assert post(edge, MEDIUM, source=OTHER).status == 200


@pytest.mark.parametrize("path", ["/upload", "/slow/upload"])
def test_a_body_that_is_passed_on_as_it_arrives_is_not_counted(
    edge: Edge, uploading: Callable[..., None], path: str
) -> None:
    for _ in range(3):
        uploading(LENGTH, path)
    edge.seen_by(Pool.SLOW if path.startswith("/slow") else Pool.FAST, 3)
    assert post(edge).status == 200


def test_a_request_that_is_handed_over_is_counted_once(edge: Edge, background: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def reply(seen: Seen) -> bytes:
        if seen.pool is Pool.SLOW:
            release.wait(20)
            return answer("done", X_Served_By="slow:1")
        return HAND_OVER

    edge.reply = reply
    first = background.submit(post, edge)
    edge.seen_by(Pool.SLOW, 1)
    assert_refused(post(edge))
    release.set()
    assert (first.result().status, first.result().pool) == (200, "slow")
    wait_until(lambda: post(edge).pool == "slow")


def test_without_a_limit_all_are_taken(tmp_path: Path) -> None:
    with Edge(tmp_path, CLIENT_UPLOADS=0) as edge, ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", edge.nginx.port)))
            client.sendall(f"POST /x HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n\r\n1".encode())
        assert post(edge).status == 200


@needs_openssl
def test_over_http_2_a_body_that_nothing_announces_is_counted_or_small(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    with (
        Edge(tmp_path / "edge", CLIENT_UPLOADS=1, TLS_CERTIFICATE=certificate, TLS_KEY=key) as edge,
        Http2(edge.nginx.https_port, ssl.create_default_context(cafile=certificate)) as client,
    ):
        open_body = client.ask("/x", b"x", "POST", end=False)
        for target in ("/x", "/slow/x"):
            assert client.answer(client.ask(target, b"x", "POST")).status == 429
            for method in ("GET", "DELETE"):
                several = [client.ask(target, b"x", method, end=False) for _ in range(2)]
                assert client.answer(client.ask(target, method=method)).status == 200
                assert client.answer(client.ask(target, SMALL, method)).status == 200
                assert client.answer(client.ask(target, b"x" * 16_385, method)).status == 413
                for stream in several:
                    client.cancel(stream)
        client.cancel(open_body)
        wait_until(lambda: client.answer(client.ask("/x", b"x", "POST")).status == 200)
