"""The prober of instances; as a script, the health check of a container.

``python -S deploy/supervise/probe.py 8001 2`` exits with 0 when 2 instances, from port 8001, are ready. The
engine runs it every few seconds, so it imports little: a heavier start would take CPU from the instances.
"""

import socket
import sys
import time

MAX_STATUS_LINE_BYTES = 4096

HEALTH_CHECK_SECONDS = 300.0
"""Longer than the timeout of the engine, which kills the health check first."""


def status_of(port: int, path: str, timeout_seconds: float) -> int:
    """GET a path on 127.0.0.1 and return the status; the rest of the response is not read.

    Raises TimeoutError when the status line is not complete in time, and another OSError when nothing
    listens on the port or the answer is not HTTP.
    """
    deadline = time.monotonic() + timeout_seconds
    with socket.create_connection(("127.0.0.1", port), timeout_seconds) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        line = b""
        while b"\n" not in line:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(MAX_STATUS_LINE_BYTES - len(line))
            if not data:
                raise ConnectionError("no status line")
            line += data
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/") or not rest[:3].isdigit():
        raise ConnectionError("not an HTTP response")
    return int(rest[:3])


def is_ok(port: int, path: str, timeout_seconds: float = 1.0) -> bool:
    """Whether the answer to a GET is 200."""
    try:
        return status_of(port, path, timeout_seconds) == 200
    except OSError:
        return False


def main() -> int | str:
    """Return 0, or the reason why an instance is not ready."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for port in range(first, first + count):
        try:
            status = status_of(port, "/-/readyz", HEALTH_CHECK_SECONDS)
        except OSError as error:
            return f"port {port}: {error}"
        if status != 200:
            return f"port {port}: status {status}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
