"""nginx without the rest of the system, before instances that are not there: silent addresses, and no DNS."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.client import Response, request
from tests.support.nginx import DOCKER, Nginx, nginx
from tests.support.process import Instance

SILENT = 8
TIMED_OUT = "timed out .* while connecting to upstream"
REQUESTS = 3
MOST_TRIES = 3 + 6 + 1
"""Tries for one request: three (nginx/location/proxy.conf), then those that begin within a second, 0.2 s each
(nginx/templates/again.conf), and the last (once.conf). On a slow machine there are fewer."""

QUICK_TRIES = {"GET": 2, "PUT": 3}
"""Tries of a request before the last one, with one instance; a PUT has a body."""


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/x", "GET"),
        ("/slow/x", "POST"),
        pytest.param("/x", "POST", marks=pytest.mark.long),
        pytest.param("/slow/x", "GET", marks=pytest.mark.long),
    ],
)
def test_a_large_pool_that_is_silent_is_503_after_a_few_tries(tmp_path: Path, method: str, path: str) -> None:
    with ExitStack() as stack:
        first = free_ports(SILENT)
        for port in range(first, first + SILENT):
            stack.enter_context(silent(port))
        ports = {"FAST_PORT": first, "SLOW_PORT": first, "FAST_PROCESSES": SILENT, "SLOW_PROCESSES": SILENT}
        edge = stack.enter_context(nginx(tmp_path, ports))
        assert_refused(edge, method, path)
        edge.wait_for_output(TIMED_OUT)
        assert tries(edge) <= REQUESTS * MOST_TRIES


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("pool", "path"), [(Pool.FAST, "/body"), (Pool.SLOW, "/slow/echo")])
def test_a_silent_instance_costs_a_try_and_no_request(
    tmp_path: Path, method: str, pool: Pool, path: str
) -> None:
    first = free_ports(2)
    ports = {"FAST_PORT": first, "SLOW_PORT": first}
    with (
        silent(first),
        Instance(pool, port=first + 1, APP="tests.apps.controlled:make_app"),
        nginx(tmp_path, ports) as edge,
    ):
        for _ in range(2 * REQUESTS):
            response = request(edge.port, path, method, body=b"x" if method == "POST" else None)
            assert response.status == 200
        assert tries(edge) <= 2 * REQUESTS


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_without_dns_it_starts_and_is_503_without_a_try(tmp_path: Path, method: str, path: str) -> None:
    nowhere = {**DOCKER, "RESOLVER": "127.0.0.2", "ADMIN_ADDRESS": "127.0.0.1"}
    with nginx(tmp_path, where=nowhere) as edge:
        assert_refused(edge, method, path)
        assert not tries(edge)


def assert_refused(edge: Nginx, method: str, path: str) -> None:
    """The pool answers 503 with Retry-After, each time."""
    for _ in range(REQUESTS):
        response = request(edge.port, path, method, body=b"x" if method == "POST" else None)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")


def tries(edge: Nginx) -> int:
    """How often nginx has not reached an instance."""
    return len(re.findall(TIMED_OUT, edge.output))


@pytest.mark.parametrize("method", QUICK_TRIES)
@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_an_instance_that_is_reached_only_after_the_quick_tries_answers(
    tmp_path: Path, method: str, path: str, background: ThreadPoolExecutor
) -> None:
    port = free_ports()
    ports = {"FAST_PORT": port, "SLOW_PORT": port, "FAST_PROCESSES": 1, "SLOW_PROCESSES": 1}
    with silent(port) as listener, nginx(tmp_path, ports) as edge:
        body = b"x" if method == "PUT" else None
        response = background.submit(request, edge.port, path, method, body=body)
        wait_until(lambda: tries(edge) == QUICK_TRIES[method])
        background.submit(answer_one, listener, response)
        assert response.result().status == 200
        assert tries(edge) == QUICK_TRIES[method]


def answer_one(listener: socket.socket, asked: Future[Response]) -> None:
    """Accept connections until one has a request, and answer that; or until the request has ended without."""
    listener.listen(SILENT)  # nginx's packet comes again after a second, and must find room in the queue
    with DefaultSelector() as ready, ExitStack() as stack:
        ready.register(listener, EVENT_READ)
        while not asked.done():
            for key, _ in ready.select(0.1):
                if key.fileobj is listener:
                    ready.register(stack.enter_context(listener.accept()[0]), EVENT_READ)
                    continue
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj.recv(4096):
                    key.fileobj.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    return
                ready.unregister(key.fileobj)  # nginx has given it up


@contextmanager
def silent(port: int) -> Iterator[socket.socket]:
    """A port that answers no connection: the queue of its listener is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield listener
