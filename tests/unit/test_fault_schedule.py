"""What the fault schedule takes for wrong, and what its clients make of what they are answered."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.basics import wait_until
from tests.support.fault_schedule import Findings
from tests.support.load import Client, Load, Outcome, Request
from tests.support.targets import Kill

GET = Client("GET", "/record", 1)
POST = Client("POST", "/record", 1)
SLOW = Client("GET", "/slow/record", 1, fast=False)
KILL = Kill("instance", 10.0, 10.1)
A, R, F = Outcome.ANSWERED, Outcome.REFUSED, Outcome.FAILED


@pytest.mark.parametrize(
    ("client", "outcome", "status", "executed", "kill"),
    [
        (GET, A, 200, 0, None),
        (GET, R, 503, 0, None),
        (POST, A, 200, 1, None),
        (POST, R, 503, 0, None),
        (POST, F, 502, 0, KILL),
        (POST, F, 502, 1, KILL),
        (SLOW, F, 502, 0, Kill("worker", 10.0, 10.1)),
        (GET, F, 0, 0, Kill("nginx", 10.0, 10.1)),
    ],
)
def test_what_may_be_is_not_wrong(
    client: Client, outcome: Outcome, status: int, executed: int, kill: Kill | None
) -> None:
    request = Request("7", client, "event", 9.9, 10.05, outcome, status, "")
    assert not wrong(request, kill, executed)


@pytest.mark.parametrize(
    ("client", "outcome", "status", "executed", "kill"),
    [
        (GET, F, 502, 0, None),
        (GET, F, 502, 0, KILL),
        (SLOW, F, 502, 0, KILL),
        (SLOW, F, 500, 0, KILL),
        (POST, F, 502, 0, None),
        (POST, F, 0, 0, KILL),
        (POST, F, 502, 2, KILL),
        (POST, F, 502, 0, Kill("instance", 11.0, 11.1)),
        (POST, F, 502, 0, Kill("instance", 8.0, 8.1)),
        (POST, F, 502, 0, Kill("worker", 10.0, 10.1)),
        (POST, F, 0, 2, Kill("nginx", 10.0, 10.1)),
        (GET, F, 0, 0, Kill("nginx", 11.0, 11.1)),
        (POST, A, 200, 0, None),
        (POST, A, 200, 2, None),
        (POST, R, 503, 1, None),
    ],
)
def test_what_must_not_be_is_wrong(
    client: Client, outcome: Outcome, status: int, executed: int, kill: Kill | None
) -> None:
    request = Request("7", client, "event", 9.9, 10.05, outcome, status, "")
    assert len(wrong(request, kill, executed)) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", A),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7", F),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", R),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", F),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", F),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n0", F),
        (b"", F),
    ],
)
def test_an_answer_is_taken_for_what_it_is(answer: bytes, outcome: Outcome) -> None:
    with serving([answer]) as port, Load(port, [Client("GET", "/", 1)]) as load:
        wait_until(lambda: load.requests)
    assert load.requests[0].outcome is outcome


def test_a_connection_that_is_closed_between_two_requests_is_opened_again() -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(3)]
    with serving(answers) as port, Load(port, [Client("GET", "/", 20)]) as load:
        wait_until(lambda: len(load.requests) >= 3)
    assert [request.outcome for request in load.requests[:3]] == [A] * 3


def wrong(request: Request, kill: Kill | None, executed: int) -> list[str]:
    """What is wrong when there was this one request."""
    findings = Findings(["event"])
    findings.add([request], [kill] if kill else [])
    findings.compare([f"{request.id}\n"] * executed)
    return findings.wrong


@contextmanager
def serving(answers: list[bytes]) -> Iterator[int]:
    """A server that gives each connection one answer and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
