"""Which paths nginx treats how: SLOW_PATHS, STREAM_PATHS, WebSockets, sizes and times."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.client import exchange, request
from tests.support.upstream import HAND_OVER, Edge, Seen, answer, who

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
BODY = b"0123456789" * 10


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(
        tmp_path_factory.mktemp("edge"),
        SLOW_PATHS="/reports/ /slow /up/slow /~x",
        STREAM_PATHS="/up /slow/up",
        MAX_BODY_BYTES=1000,
        SLOW_PER_CLIENT=0,
    ) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    shared.reply = who
    shared.seen.clear()
    return shared


@pytest.mark.parametrize(
    ("target", "pool", "streamed"),
    [
        ("/", "fast", False),
        ("/reports", "fast", False),
        ("/reports?x", "fast", False),
        ("/reports/", "slow", False),
        ("/reports/x", "slow", False),
        ("/x/reports/", "fast", False),
        ("/Reports/", "fast", False),
        ("/%72eports%2Fx", "slow", False),
        ("/~x", "slow", False),
        ("/slowly", "slow", False),
        ("/slow/up", "slow", True),
        ("/slow/upper", "slow", True),
        ("/up", "fast", True),
        ("/up/slow", "slow", True),
        ("//up//x", "fast", True),
        ("/up/../x", "fast", False),
    ],
)
def test_a_path_belongs_to_the_pool_and_the_way_of_its_prefixes(
    edge: Edge, target: str, pool: str, streamed: bool
) -> None:
    for method, body in [("GET", None), ("POST", b"x"), ("PUT", b"x"), ("GET", b"x"), ("POST", b"")]:
        edge.seen.clear()
        response = edge.get(target, method, body=body)
        assert (response.status, response.pool) == (200, pool)
        (seen,) = edge.seen
        assert (seen.method, seen.target) == (method, target)
        expected = "1" if streamed and method != "GET" and body else None
        assert seen.headers.get("x-slowpool-streamed") == expected, (method, body)


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"http://b", "/"),
        (b"http://b?x=/slow", "/?x=/slow"),
        (b"http://b/a%2Fb//c?", "/a%2Fb//c?"),
        (b"/?", "/?"),
        (b"/a#b", "/a#b"),
        (b"/a?b#c", "/a?b#c"),
        (b"/\xc3\xbc?\xff", "/\xc3\xbc?\xff"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("body", [b"", b"x"])
def test_a_path_is_passed_on_as_it_was_sent(
    edge: Edge, target: bytes, sent: str, version: bytes, body: bytes
) -> None:
    head = b"GET %s HTTP/%s\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, version, len(body))
    assert exchange(edge.nginx.port, head + body).pool == "fast"
    (seen,) = edge.seen
    assert (seen.target, seen.body) == (sent, body)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_a_stream_path_reaches_the_instance_as_it_arrives(
    edge: Edge, method: str, chunked: bool
) -> None:
    first, whole = threading.Event(), threading.Event()

    def reply(seen: Seen) -> bytes:
        data = seen.body
        while b"first" not in data:
            data += seen.connection.recv(100)
        first.set()
        while b"second" not in data:
            data += seen.connection.recv(100)
        whole.set()
        return who(seen)

    edge.reply = reply
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 11"
    with socket.create_connection(("127.0.0.1", edge.nginx.port), timeout=30) as client:
        client.sendall(b"%s /up HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (method.encode(), framing))
        client.sendall(b"5\r\nfirst\r\n" if chunked else b"first")
        assert first.wait(30)
        assert not whole.is_set()
        client.sendall(b"6\r\nsecond\r\n0\r\n\r\n" if chunked else b"second")
        assert b" 200 " in client.recv(1000)
    assert len(edge.seen) == 1


@pytest.mark.parametrize("target", ["/x", "/slow", "/up"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_waits_for_100_continue_is_asked_for(edge: Edge, target: str, method: str) -> None:
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert exchange(edge.nginx.port, head.encode(), then=b"x").status == 200


@pytest.mark.parametrize("target", ["/x", "/slow", "/up"])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_body_that_is_larger_than_it_may_be_is_413(edge: Edge, target: str, method: str) -> None:
    assert edge.get(target, method, body=b"x" * 1000).status == 200
    response = edge.get(target, method, body=b"x" * 1001)
    assert (response.status, response.pool) == (413, "")
    assert response.problem()["detail"] == "the body is larger than this server takes"
    edge.reply = lambda seen: None if len(seen.body) > 1000 else answer()
    head = b"%s %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head % (method.encode(), target.encode()) + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
    assert exchange(edge.nginx.port, chunked).status == 413


def test_a_request_of_a_stream_path_cannot_be_handed_over_once_it_has_a_body(edge: Edge) -> None:
    edge.reply = lambda seen: HAND_OVER if seen.pool is Pool.FAST else who(seen)
    assert edge.get("/up").pool == "slow"
    assert edge.get("/up", "POST").pool == "slow"
    edge.seen.clear()
    assert edge.get("/up", "POST", body=b"x").text == ""
    assert [seen.pool for seen in edge.seen] == [Pool.FAST]


@pytest.mark.parametrize("target", ["/up", "/x", "/slow/up"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("affinity", ["", "address"])
def test_a_request_with_a_body_finds_the_instance_that_is_left_and_ends_one_at_most(
    tmp_path: Path, target: str, method: str, affinity: str
) -> None:
    with Edge(tmp_path, STREAM_PATHS="/up /slow/up", AFFINITY=affinity) as edge:
        pool = Pool.SLOW if "slow" in target else Pool.FAST
        gone, left = edge.of(pool)
        gone.stop()
        for _ in range(4):
            response = edge.get(target, method, body=BODY)
            assert response.headers["X-Served-By"] == f"{pool}:{left.port}"
        edge.seen.clear()
        edge.reply = lambda _: None
        assert edge.get(target, method, body=BODY).status == 502
        assert len(edge.seen) == 1
        left.stop()
        assert edge.get(target, method, body=BODY).status == 503


@pytest.mark.parametrize("target", ["/x", "/slow", "/up"])
def test_a_websocket_is_passed_on_and_both_sides_can_talk(edge: Edge, target: str) -> None:
    def reply(seen: Seen) -> bytes | None:
        assert seen.headers["upgrade"] == "websocket"
        seen.connection.sendall(SWITCHED + b"hello")
        assert seen.connection.recv(100) == b"answer"
        seen.connection.sendall(b"end")
        return None

    edge.reply = reply
    head = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    with socket.create_connection(("127.0.0.1", edge.nginx.port), timeout=30) as client:
        client.sendall(f"GET {target}?a%2Fb HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
        received = b""
        while not received.endswith(b"hello"):
            received += client.recv(1000)
        assert b" 101 " in received
        client.sendall(b"answer")
        assert client.recv(100) == b"end"
        assert client.recv(100) == b""
    assert [seen.target for seen in edge.seen] == [f"{target}?a%2Fb"]


@pytest.mark.parametrize("target", ["/x", "/slow"])
def test_a_websocket_finds_the_instance_that_is_left_and_ends_one_at_most(
    tmp_path: Path, target: str
) -> None:
    with Edge(tmp_path) as edge:
        pool = Pool.SLOW if target == "/slow" else Pool.FAST
        edge.of(pool)[0].stop()
        for _ in range(4):
            assert edge.get(target, headers=UPGRADE).pool == pool
        edge.seen.clear()
        edge.reply = lambda _: None
        assert edge.get(target, headers=UPGRADE).status == 502
        assert len(edge.seen) == 1


def test_a_request_to_upgrade_that_the_instance_hands_over_is_answered_by_the_slow_pool(edge: Edge) -> None:
    edge.reply = lambda seen: HAND_OVER if seen.pool is Pool.FAST else who(seen)
    assert edge.get("/x", headers=UPGRADE).pool == "slow"


@pytest.mark.parametrize("target", ["/x", "/slow"])
@pytest.mark.parametrize("unbuffered", [False, True])
def test_an_answer_passes_as_it_comes_where_the_instance_says_so(
    edge: Edge, target: str, unbuffered: bool
) -> None:
    go_on = threading.Event()

    def reply(seen: Seen) -> bytes | None:
        header = b"X-Accel-Buffering: no\r\n" if unbuffered else b""
        seen.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n" + header + b"\r\nfirst")
        go_on.wait(30)
        return b"other"

    edge.reply = reply
    with socket.create_connection(("127.0.0.1", edge.nginx.port), timeout=30) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        if unbuffered:
            received = b""
            while not received.endswith(b"first"):
                received += client.recv(1000)
            assert b"X-Accel" not in received
        go_on.set()
        received = b""
        while not received.endswith(b"other"):
            received += client.recv(1000)


@pytest.mark.parametrize(
    ("method", "body", "headers"),
    [("GET", None, {}), ("GET", b"x", {}), ("POST", b"x", {}), ("PUT", b"x", {})],
)
def test_a_fast_instance_that_is_late_is_504_and_gets_the_request_alone(
    tmp_path: Path, method: str, body: bytes | None, headers: dict[str, str]
) -> None:
    release = threading.Event()

    def reply(seen: Seen) -> bytes:
        release.wait(30)
        return who(seen)

    with Edge(tmp_path, reply, count=3, FAST_TIMEOUT_SECONDS=1) as edge:
        response = edge.get("/x", method, body=body, headers=headers)
        assert response.status == 504
        assert response.problem()["detail"] == "the instance did not answer in time"
        assert len(edge.seen) == 1
        release.set()


def test_a_silent_address_is_passed_over_even_with_the_shortest_timeout(tmp_path: Path) -> None:
    """Its queue of connections is full, so a SYN gets no answer."""
    with Edge(tmp_path, count=3, FAST_TIMEOUT_SECONDS=1) as edge, ExitStack() as sockets:
        silent = edge.of(Pool.FAST)[0]
        silent.stop()
        listener = sockets.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", silent.port))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", silent.port))
        for method, body in [("GET", None), ("POST", b"x"), ("PUT", b"x")] * 3:
            assert edge.get("/x", method, body=body).status == 200
        edge.nginx.wait_for_output(f'"upstream":"127.0.0.1:{silent.port}"')  # in the error log


def test_the_admin_server_shows_the_status_page_of_an_instance(edge: Edge) -> None:
    for target, sent in [
        ("/status", "/-/status"),
        ("/status?x=%2F", "/-/status?x=%2F"),
        ("/status/live", "/-/status/live"),
        ("/status/static/a%20b%0D%0AX", "/-/status/static/a%20b%0D%0AX"),
    ]:
        edge.seen.clear()
        assert request(edge.nginx.admin_port, target, headers={"X-Slowpool-Public": "1"}).pool == "fast"
        (seen,) = edge.seen
        assert seen.target == sent
        assert "x-slowpool-public" not in seen.headers
    for target in ("/-/status", "/x", "/status/../-/livez"):
        assert request(edge.nginx.admin_port, target).status == 404


def test_the_admin_server_asks_a_slow_instance_when_no_fast_one_answers(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        for instance in edge.of(Pool.FAST):
            instance.stop()
        assert request(edge.nginx.admin_port, "/status/live").pool == "slow"
        assert [seen.target for seen in edge.seen] == ["/-/status/live"]
