"""Open-loop load: requests at a constant rate, each latency from the instant at which it was due.

A closed loop waits for an answer before it asks again, so it measures least when the server is slowest
("coordinated omission"). Standard library only, since it also runs inside a container.
"""

import argparse
import gc
import json
import math
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """The outcome of a request. ``status`` is 0 when its connection failed or its answer never came."""

    due_seconds: float  # since the start of the load
    latency_seconds: float
    status: int
    retry_after_seconds: int
    served_by: str


def open_loop(url: str, rate: float, seconds: float, patience: float = 30) -> list[Answer]:
    """Send ``rate`` requests a second for some seconds; the answers, in the order in which they came.

    A request that is due while all connections are busy opens another one. What is not answered
    ``patience`` seconds after the last was due is given up.
    """
    parts = urlsplit(url)
    address = (socket.gethostbyname(parts.hostname or "localhost"), parts.port or 80)
    request = f"GET {parts.path or '/'}?{parts.query} HTTP/1.1\r\nHost: {parts.hostname}\r\n\r\n".encode()
    poll = select.epoll()
    idle: deque[socket.socket] = deque()
    busy: dict[int, tuple[socket.socket, float, bytearray]] = {}
    answers: list[Answer] = []
    start = time.perf_counter() + 0.1

    def end(due: float, answer: bytes) -> None:
        status, headers = _parse(answer)
        latency = time.perf_counter() - due
        retry_after = int(headers.get("retry-after", "0"))
        answers.append(Answer(due - start, latency, status, retry_after, headers.get("x-served-by", "")))

    sent, total = 0, int(rate * seconds)
    while len(answers) < total:
        due = start + (sent / rate if sent < total else seconds + patience)
        # select(2) waits by the microsecond, epoll by the millisecond, but takes any number of sockets.
        select.select([poll], [], [], max(0.0, due - time.perf_counter()))
        for number, events in poll.poll(0):
            connection, due_at, answer = busy[number]
            if events == select.EPOLLOUT:  # it is connected now
                connection.send(request)
                poll.modify(number, select.EPOLLIN)
                continue
            part = _receive(connection)
            answer += part
            if part and not _is_whole(bytes(answer)):
                continue
            end(due_at, bytes(answer) if part else b"")
            del busy[number]
            poll.unregister(number)
            if not part or b"\r\nconnection: close\r\n" in answer.lower():
                connection.close()
            else:
                idle.append(connection)
        if time.perf_counter() < due:
            continue
        if sent == total:
            for connection, due_at, _ in busy.values():
                end(due_at, b"")
                connection.close()
            break
        sent += 1
        connection = idle.popleft() if idle else _connect(address)
        busy[connection.fileno()] = connection, due, bytearray()
        poll.register(connection, select.EPOLLOUT)  # at once, when it is connected already
    for connection in idle:
        connection.close()
    poll.close()
    return answers


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect_ex(address)  # what becomes of it, epoll tells
    return connection


def _receive(connection: socket.socket) -> bytes:
    """Some of an answer; nothing when the connection has ended."""
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    _, headers = _parse(head)
    return bool(end) and len(body) >= int(headers.get("content-length", "0"))


def _parse(answer: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    if not answer.startswith(b"HTTP/1."):
        return 0, {}
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--patience", type=float, default=30)
    options = parser.parse_args()
    gc.disable()  # a collection of the answers takes milliseconds, which would count as the server's
    print(json.dumps(open_loop(options.url, options.rate, options.seconds, options.patience)))
