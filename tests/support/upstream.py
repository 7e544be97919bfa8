"""Instances as nginx sees them: they note each request and answer what a test wants."""

import contextlib
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowpool.config import Pool
from tests.support.basics import Entered, free_ports, wait_until
from tests.support.client import Response, request
from tests.support.nginx import Nginx, nginx


@dataclass(frozen=True)
class Seen:
    """A request that an instance has received, with its body so far as it has arrived."""

    pool: Pool
    port: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: socket.socket = field(repr=False, compare=False)


Answer = Callable[[Seen], bytes | None]
"""What an instance sends; without it the connection is closed."""


def answer(text: str = "", status: int = 200, **headers: str) -> bytes:
    """An answer; an underscore in the name of a header stands for a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} OK", f"Content-Length: {len(text.encode())}", *lines, "", text]
    return "\r\n".join(head).encode()


def who(seen: Seen) -> bytes:
    """The default answer: the instance's name as header and text."""
    return answer(f"{seen.pool}:{seen.port}", X_Served_By=f"{seen.pool}:{seen.port}")


HAND_OVER = answer(X_Accel_Redirect="@handed_over", X_Slowpool_Elapsed="1.250")
"""The answer of a fast instance that hands a request over."""


class Edge(Entered):
    """nginx and ``count`` instances of each pool."""

    def __init__(self, folder: Path, reply: Answer = who, count: int = 2, **settings: object) -> None:
        self.reply = reply
        self.seen: list[Seen] = []
        self.instances: dict[int, Upstream] = {}
        self.settings = dict(settings)
        self._folder = folder
        self._count = count

    def enter(self, parts: ExitStack) -> None:
        for pool in (Pool.FAST, Pool.SLOW):
            first = free_ports(self._count)
            self.settings |= {f"{pool.upper()}_PORT": first, f"{pool.upper()}_PROCESSES": self._count}
            for port in range(first, first + self._count):
                self.instances[port] = Upstream(self, pool, port)
                self.instances[port].start()
                parts.callback(self.instances[port].stop)
        self.nginx: Nginx = parts.enter_context(nginx(self._folder, self.settings))

    def get(self, target: str, method: str = "GET", **options: Any) -> Response:
        """One request through nginx."""
        return request(self.nginx.port, target, method, **options)

    def of(self, pool: Pool) -> list["Upstream"]:
        """The instances of a pool."""
        return [instance for instance in self.instances.values() if instance.pool is pool]

    def seen_by(self, pool: Pool, count: int = 0) -> list[Seen]:
        """What a pool has received, once it has received ``count`` requests."""
        wait_until(lambda: sum(seen.pool is pool for seen in self.seen) >= count)
        return [seen for seen in self.seen if seen.pool is pool]


class Upstream:
    """One instance: it listens between ``start`` and ``stop``."""

    def __init__(self, edge: Edge, pool: Pool, port: int) -> None:
        self.pool, self.port = pool, port
        self._edge = edge
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._idle: set[socket.socket] = set()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def refuse(self) -> None:
        """Refuse new connections."""
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def stop(self) -> None:
        """Refuse connections, and close those that there are; nginx has noticed that for the idle ones."""
        self.refuse()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: not self._idle)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # stopped
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        try:
            while True:
                self._idle.add(connection)
                while b"\r\n\r\n" not in data:
                    data += _receive(connection)
                self._idle.discard(connection)
                head, _, data = data.partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                streamed = headers.get("x-slowpool-streamed") == "1"  # the test reads the body
                if headers.get("transfer-encoding") == "chunked" and not streamed:
                    while not data.endswith(b"0\r\n\r\n"):
                        data += _receive(connection)
                    body, data = data, b""
                else:
                    length = 0 if streamed else int(headers.get("content-length", 0))
                    while len(data) < length:
                        data += _receive(connection)
                    body, data = (data, b"") if streamed else (data[:length], data[length:])
                seen = Seen(self.pool, self.port, method, target, headers, body, connection)
                self._edge.seen.append(seen)
                reply = self._edge.reply(seen)
                if reply is None:
                    break
                if streamed:  # how much of the body is left is not known
                    reply = reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                connection.sendall(reply)
                if streamed:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                    break
        except OSError:
            pass
        finally:
            self._connections.discard(connection)
            self._idle.discard(connection)
            _close(connection)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError
    return data


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side has closed it
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
