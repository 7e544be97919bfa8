"""nginx alone, before instances that are not there: silent addresses, and no DNS."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports
from tests.support.client import request
from tests.support.nginx import DOCKER, nginx
from tests.support.process import Instance

SILENT = 8
LONGEST_SECONDS = 2


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_a_large_pool_that_is_silent_is_503_within_2_s(tmp_path: Path, method: str, path: str) -> None:
    with ExitStack() as stack:
        first = free_ports(SILENT)
        for port in range(first, first + SILENT):
            stack.enter_context(silent(port))
        ports = {"FAST_PORT": first, "SLOW_PORT": first, "FAST_PROCESSES": SILENT, "SLOW_PROCESSES": SILENT}
        edge = stack.enter_context(nginx(tmp_path, ports))
        assert_refused(edge.port, method, path)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("pool", "path"), [(Pool.FAST, "/body"), (Pool.SLOW, "/slow/echo")])
def test_a_silent_instance_costs_a_second_at_most_and_no_request(
    tmp_path: Path, method: str, pool: Pool, path: str
) -> None:
    first = free_ports(2)
    ports = {"FAST_PORT": first, "SLOW_PORT": first}
    with (
        silent(first),
        Instance(pool, port=first + 1, ROUTES="tests.apps.controlled"),
        nginx(tmp_path, ports) as edge,
    ):
        for _ in range(6):
            started_at = time.monotonic()
            response = request(edge.port, path, method, body=b"x" if method == "POST" else None)
            assert time.monotonic() - started_at < 1
            assert response.status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_without_dns_it_starts_and_is_503_within_2_s(tmp_path: Path, method: str, path: str) -> None:
    nowhere = {**DOCKER, "RESOLVER": "127.0.0.2", "ADMIN_ADDRESS": "127.0.0.1"}
    with nginx(tmp_path, where=nowhere) as edge:
        assert_refused(edge.port, method, path)


def assert_refused(port: int, method: str, path: str) -> None:
    """The pool answers 503 with Retry-After, soon, each time."""
    for _ in range(3):
        started_at = time.monotonic()
        response = request(port, path, method, body=b"x" if method == "POST" else None)
        assert time.monotonic() - started_at < LONGEST_SECONDS
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"


@contextmanager
def silent(port: int) -> Iterator[None]:
    """A port that answers no connection: the queue of its listener is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield
