"""Open-loop load: requests at a constant rate, each latency from the instant at which it was due.

A closed loop waits for an answer before it asks again, so it measures least when the server is slowest
("coordinated omission"). The standard library alone: it also runs inside a container.
"""

import argparse
import json
import select
import socket
import time
from collections import deque
from urllib.parse import urlsplit


def open_loop(url: str, rate: float, seconds: float) -> list[float]:
    """Send ``rate`` requests a second; the latencies in seconds, in the order of the answers.

    A request that is due while all connections are busy opens another one. Raises RuntimeError for an
    answer that is not 200.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "localhost", parts.port or 80)
    path = f"{parts.path or '/'}?{parts.query}"
    request = f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\n\r\n".encode()
    idle: deque[socket.socket] = deque()
    busy: dict[socket.socket, float] = {}
    latencies: list[float] = []
    start = time.perf_counter() + 0.1
    sent, total = 0, int(rate * seconds)
    while len(latencies) < total:
        due = start + sent / rate if sent < total else start + seconds + 30
        timeout = due - time.perf_counter()
        # select(2), whose timeout is in microseconds; epoll's is in milliseconds.
        readable, _, _ = select.select(list(busy), [], [], max(0, timeout))
        for connection in readable:
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"not answered 200: {answer[:100]!r}")
            latencies.append(time.perf_counter() - busy.pop(connection))
            if b"\r\nConnection: close\r\n" in answer:  # after nginx's keepalive_requests
                connection.close()
            else:
                idle.append(connection)
        if sent < total and time.perf_counter() >= due:
            connection = idle.popleft() if idle else _connect(address)
            connection.send(request)
            busy[connection] = due
            sent += 1
        elif sent == total and not readable:
            raise RuntimeError(f"{total - len(latencies)} requests were not answered in time")
    for connection in idle:
        connection.close()
    return latencies


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    print(json.dumps(open_loop(options.url, options.rate, options.seconds)))
