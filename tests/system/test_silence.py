"""nginx without the rest of the system, before instances that are not there: silent addresses, and no DNS."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports
from tests.support.client import Response, request
from tests.support.nginx import DOCKER, Nginx, nginx
from tests.support.process import Instance

SILENT = 8
MOST_TRIES = {"GET": 3 + 10, "POST": 3}
"""Instances that nginx asks for one request: nginx/snippets/proxy.conf and second_try.conf, and once.conf."""


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_a_large_pool_that_is_silent_is_503_after_a_few_tries(tmp_path: Path, method: str, path: str) -> None:
    with ExitStack() as stack:
        first = free_ports(SILENT)
        for port in range(first, first + SILENT):
            stack.enter_context(silent(port))
        ports = {"FAST_PORT": first, "SLOW_PORT": first, "FAST_PROCESSES": SILENT, "SLOW_PROCESSES": SILENT}
        edge = stack.enter_context(nginx(tmp_path, ports))
        assert any(refused(edge, method, path)), "nginx has asked an instance"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("pool", "path"), [(Pool.FAST, "/body"), (Pool.SLOW, "/slow/echo")])
def test_a_silent_instance_costs_one_try_and_no_request(
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
            response = request(edge.port, path, method, body=b"x" if method == "POST" else None)
            assert response.status == 200
            asked = tries(edge, response)
            assert asked.count(f"127.0.0.1:{first}") <= 1
            assert asked[-1] == f"127.0.0.1:{first + 1}"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_without_dns_it_starts_and_is_503_without_a_try(tmp_path: Path, method: str, path: str) -> None:
    nowhere = {**DOCKER, "RESOLVER": "127.0.0.2", "ADMIN_ADDRESS": "127.0.0.1"}
    with nginx(tmp_path, where=nowhere) as edge:
        assert not any(refused(edge, method, path))


def refused(edge: Nginx, method: str, path: str) -> list[list[str]]:
    """Assert that the pool answers 503 with Retry-After each time; the tries of each request."""
    found = []
    for _ in range(3):
        response = request(edge.port, path, method, body=b"x" if method == "POST" else None)
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        found.append(tries(edge, response))
        assert len(found[-1]) <= MOST_TRIES[method]
    return found


def tries(edge: Nginx, response: Response) -> list[str]:
    """The instances that nginx has asked for a request, in order."""
    line = json.loads(edge.wait_for_output(rf'"request_id":"{response.headers["X-Request-ID"]}"'))
    # Where it avoids all instances, it logs the name of the upstream.
    return re.findall(r"[\d.]+:\d+", line["upstream"])


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
