"""A plain HTTP client. It sends the path unchanged, retries nothing and follows no redirect."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Response:
    """A response, with its whole body."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def pool(self) -> str:
        """The pool of the instance that answered; empty when nginx answered."""
        return str(self.headers.get("X-Served-By", "")).partition(":")[0]

    def problem(self) -> dict[str, Any]:
        """The body, which must be a problem of RFC 9457 that fits the answer."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status, problem
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["request_id"] == self.headers["X-Request-ID"], self
        return problem


def request(
    port: int,
    target: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    address: str = "127.0.0.1",
    source: str = "",
    timeout: float = 30,
) -> Response:
    """One request on a connection of its own, from the address ``source``."""
    connection = http.client.HTTPConnection(
        address, port, timeout=timeout, source_address=(source, 0) if source else None
    )
    try:
        connection.request(method, target, body, dict(headers or {}))
        return received(connection.getresponse())
    finally:
        connection.close()


def exchange(
    port: int, data: bytes, timeout: float = 30, *, method: str | None = None, then: bytes = b""
) -> Response:
    """Send these bytes and read the answer; ``then`` is sent after its first byte has arrived."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection,
        http.client.HTTPResponse(connection, method=method) as response,
    ):
        connection.sendall(data)
        if then:
            connection.recv(1, socket.MSG_PEEK)
            connection.sendall(then)
        response.begin()
        return received(response)


@contextmanager
def unanswered(port: int, target: str, client: str = "127.0.0.1") -> Iterator[None]:
    """A GET. On exit the client, whose address this is, closes the connection without reading from it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(client, 0)) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield


@contextmanager
def opened(port: int, target: str) -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET of which only the headers have been read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", target)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def received(response: http.client.HTTPResponse) -> Response:
    """Read an answer to its end."""
    return Response(response.status, response.headers, response.read())


def refuses(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nothing listens there."""
    with socket.socket() as connection:
        connection.settimeout(30)
        return connection.connect_ex((address, port)) != 0
