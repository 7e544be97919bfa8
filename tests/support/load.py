"""Clients that send requests without a pause, and the outcome of each request.

A client speaks HTTP/1.1 as it should: a kept-alive connection that was closed between two requests is
opened again, and a request whose connection breaks after it was sent has failed.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

TIMEOUT_SECONDS = 60.0
"""A request without an answer for this long has failed."""


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"  # 429 or 503, with Retry-After
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Client:
    """One that asks: what, how often at most, and whether on one connection or on a fresh one each time."""

    method: str
    target: str
    per_second: float
    keeps: bool = True
    fast: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """One request; its times are of the monotonic clock."""

    id: str
    client: Client
    event: str
    started_at: float
    ended_at: float
    outcome: Outcome
    status: int
    detail: str

    def __str__(self) -> str:
        connection = "kept" if self.client.keeps else "fresh"
        path = self.client.target.partition("?")[0]
        return f"{self.client.method} {path} on a {connection} connection: {self.detail[:90]}"

    @property
    def seconds(self) -> float:
        """From before its connection was opened until its answer was there."""
        return self.ended_at - self.started_at


class Load:
    """The clients, from when it is entered until it is left; ``event`` is noted with what ends meanwhile.

    Each client keeps to one of the ``addresses``, in turn; when these change, with its next request.
    """

    def __init__(self, port: int, clients: list[Client], addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        self.requests: list[Request] = []
        self.event = ""
        self.addresses = addresses
        self._port = port
        self._clients = clients
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stopped = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._thread.join()

    def take(self) -> list[Request]:
        """The requests that have ended until now; ``requests`` then has those that end from now on."""
        taken = list(self.requests)
        del self.requests[: len(taken)]  # more may have come
        return taken

    def burst(self, client: Client, count: int) -> None:
        """So many requests at once, beside the others; returns when all have ended."""
        assert self._loop

        async def all_of_them() -> None:
            await asyncio.gather(*(self._ask(client, self.addresses[0], None) for _ in range(count)))

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        count = len(self._clients)
        await asyncio.gather(*(self._run(one, index, count) for index, one in enumerate(self._clients)))

    async def _run(self, client: Client, index: int, count: int) -> None:
        interval = 1 / client.per_second
        due_at = time.monotonic() + index / count * interval
        connection: _Connection | None = None
        address = ""
        while True:
            await asyncio.sleep(max(0, due_at - time.monotonic()))
            if self._stopped:
                break
            before, address = address, self.addresses[index % len(self.addresses)]
            if connection and address != before:
                connection.close()
            connection = await self._ask(client, address, connection)
            due_at = max(due_at + interval, time.monotonic())  # what is late is not made up for
        if connection:
            connection.close()

    async def _ask(
        self, client: Client, address: str, connection: "_Connection | None"
    ) -> "_Connection | None":
        """One request; returns the connection if the next one can be sent on it."""
        number = f"{next(self._numbers)}"
        started_at = time.monotonic()
        status, detail, outcome = 0, "", Outcome.FAILED
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if connection is None or connection.closed:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(_Connection, address, self._port)
                status, headers, body = await connection.exchange(_message(client, number))
            if status == 200 and body == number.encode():
                outcome = Outcome.ANSWERED
            else:
                detail = f"{status} {body[:200]!r}"
                if status in (429, 503) and b"retry-after:" in headers:
                    outcome = Outcome.REFUSED
        except (OSError, TimeoutError) as error:
            headers = b"connection: close"
            detail = repr(error)
        ended_at = time.monotonic()
        self.requests.append(
            Request(number, client, self.event, started_at, ended_at, outcome, status, detail)
        )
        if connection and (not client.keeps or b"connection: close" in headers):
            connection.close()
            return None
        return connection


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time; streams would cost twice the time on the CPU."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None

    async def exchange(self, message: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; status, headers in lower case, and body of its answer."""
        assert self._transport
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._answer

    def close(self) -> None:
        if self._transport:
            self._transport.close()
        self.closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._answer or self._answer.done():
            return
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        head = head.lower()
        _, found, length = head.partition(b"\r\ncontent-length:")
        if not found:
            self._answer.set_exception(ConnectionError(f"an answer without a length: {head!r}"))
        elif len(body) >= int(length.split(b"\r\n", 1)[0]):
            self._answer.set_result((int(head[9:12]), head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer and not self._answer.done():
            text = f"closed after the request was sent, {len(self._received)} bytes of an answer: {error!r}"
            self._answer.set_exception(ConnectionError(text))


def _message(client: Client, number: str) -> bytes:
    body = "x" if client.method == "POST" else ""
    lines = [
        f"{client.method} {client.target}{'&' if '?' in client.target else '?'}id={number} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        *([] if client.keeps else ["Connection: close"]),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body.encode()
