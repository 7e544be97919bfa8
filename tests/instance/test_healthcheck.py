"""The containers' health check."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.support.basics import ROOT, free_ports
from tests.support.process import Instance


def test_ready_instances_are_healthy(demo: Instance) -> None:
    assert healthcheck(demo.port) == (0, "")


def test_an_instance_that_does_not_listen_is_unhealthy() -> None:
    port = free_ports()
    status, reason = healthcheck(port)
    assert status == 1
    assert reason.startswith(f"port {port}: ")
    assert "Connection refused" in reason


def test_one_instance_that_is_not_ready_is_enough() -> None:
    """The first of two ports has an instance, the second has none."""
    first = free_ports(2)
    with Instance(port=first):
        status, reason = healthcheck(first, count=2)
    assert status == 1
    assert reason.startswith(f"port {first + 1}: ")


def test_an_answer_other_than_200_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as answering:
        port = listener.getsockname()[1]
        answering.submit(answer, listener, b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining")
        assert healthcheck(port) == (1, f"port {port}: status 503\n")


def answer(listener: socket.socket, data: bytes) -> None:
    """Answer one request with these bytes."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(data)


def healthcheck(port: int, count: int = 1) -> tuple[int, str]:
    """The exit status and the stderr of the health check of a container with these instances."""
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "deploy" / "supervise" / "probe.py", str(port), str(count)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr
