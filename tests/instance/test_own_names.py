"""The names under which the system routes answer; under any other name a foreign page could read them."""

import socket
from collections.abc import Iterator

import pytest

from slowpool.config import Pool
from tests.support.client import exchange, request
from tests.support.process import Instance

SYSTEM_PATHS = ["/-/livez", "/-/readyz", "/-/metrics", "/-/status", "/-/status/live", "/-/status/instance"]
SYSTEM_PATHS += ["/-/status/static/status.css", "/-/stack", "/-/events", "/-/history"]

OWN = [
    *("localhost", "LocalHost", "localhost.", "localhost:8001", "localhost.:1", "localhost:"),
    *("127.0.0.1", "127.0.0.1:9", "10.1.2.3:8001", "[::1]", "[::1]:8001", "[2001:DB8::1]:8001"),
    *("fast", "FAST:8001", "tasks.slow:8101", socket.gethostname(), f"{socket.gethostname().upper()}:1"),
    *("shop.example", "SHOP.example.:443", "a.wild.example", "a.b.wild.example:80"),
    *("dot.example", "a.dot.example", "a.b.dot.example", "end.example", "end.co.uk"),
]
FOREIGN = [
    *("evil.example", "evil.example:8001", "localhost.evil.example", "evil.localhost", "localhost..", "."),
    *("127.0.0.1.nip.io", "127.0.0.1.nip.io:8001", "127.0.0.1.evil.example", "127.0.0.1.evil.example."),
    *("127.1", "2130706433", "0x7f000001", "127.0.0.1.2", "256.0.0.1", "::1", "[::1].evil.example", "[evil]"),
    *(
        "",
        ":8001",
        "localhost:80:80",
        "localhost:evil",
        "%6cocalhost",
        "localhost%2eevil",
        "fast.evil.example",
    ),
    *(
        "shop.example.evil",
        "xshop.example",
        "a.shop.example",
        "wild.example",
        "xwild.example",
    ),
    *("xdot.example", "end", "x.end.example", "_", "*", "evil.example;localhost", "(localhost)"),
]
NOT_HTTP = ["localhost@evil.example", "localhost evil.example", "localhost/", "localhost, evil.example"]


@pytest.fixture(scope="module")
def named() -> Iterator[Instance]:
    with Instance(
        Pool.ALL,
        FAST_HOST="fast",
        SLOW_HOST="tasks.slow",
        SERVER_NAMES="shop.example, *.wild.example .dot.example,end.*",
    ) as instance:
        yield instance


@pytest.mark.parametrize("host", OWN)
def test_a_system_route_answers_to_a_name_of_its_own(named: Instance, host: str) -> None:
    assert status(named, host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_system_route_does_not_answer_to_another_name(named: Instance, host: str) -> None:
    assert status(named, host) == 421


@pytest.mark.parametrize("host", NOT_HTTP)
def test_what_is_no_host_is_refused(named: Instance, host: str) -> None:
    assert status(named, host) == 400


@pytest.mark.parametrize("path", SYSTEM_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_none_of_the_system_routes_answers_to_a_foreign_name(named: Instance, path: str, method: str) -> None:
    answer = request(named.port, path, method, headers={"Host": f"evil.example:{named.port}"})
    assert answer.status == 421
    assert "SERVER_NAMES" in answer.problem()["detail"]


def test_routes_of_the_application_answer_to_any_name(named: Instance) -> None:
    assert request(named.port, "/fast?id=7", headers={"Host": "evil.example"}).status == 200


def test_without_a_host_a_request_is_from_no_browser(named: Instance) -> None:
    assert exchange(named.port, b"GET /-/livez HTTP/1.0\r\n\r\n").status == 200
    assert exchange(named.port, b"GET /-/livez HTTP/1.1\r\n\r\n").status == 400


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("http://evil.example/-/metrics", ["localhost"]),
        ("http://localhost/-/metrics", ["evil.example"]),
        ("/-/metrics", ["localhost", "evil.example"]),
        ("/-/metrics", ["evil.example", "localhost"]),
        ("//evil.example/-/metrics", ["localhost"]),
    ],
)
def test_two_names_in_one_request_read_nothing(named: Instance, target: str, hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = exchange(named.port, f"GET {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    assert answer.status in (400, 404, 421)
    assert b"process_start_time_seconds" not in answer.body


@pytest.mark.parametrize("path", ["/-/status/live", "/-/status/instance"])
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("evil.example:1", "http://evil.example:1", 421),
        ("evil.example:1", None, 421),
        ("localhost:1", "http://evil.example:1", 403),
        ("localhost:1", "http://localhost:1", 101),
        ("localhost:1", None, 101),
    ],
)
def test_a_websocket_opens_only_for_an_own_name_and_its_own_page(
    named: Instance, path: str, host: str, origin: str | None, status: int
) -> None:
    lines = [
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        f"Origin: {origin}\r\n" if origin else "",
    ]
    with socket.create_connection(("127.0.0.1", named.port), timeout=30) as connection:
        connection.sendall("".join([*lines, "\r\n"]).encode())
        assert connection.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def status(instance: Instance, host: str) -> int:
    """The status of /-/metrics for this Host."""
    line = f"GET /-/metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    return exchange(instance.port, line.encode()).status
