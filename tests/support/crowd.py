"""Many connections at once, from a process beside the test, which has its own limit of open files.

``python -m tests.support.crowd PORT COUNT TARGET`` opens them, one by one. For each line on its stdin
it asks once on every one, all at the same time, and prints how often each answer came, as JSON. ``{}`` in the
target is the connection's number; a 200 whose text does not end with that number is ``wrong``.
"""

import json
import os
import resource
import selectors
import socket
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.process import Process

SPARE_FILES = 200
PATIENCE_SECONDS = 60


class Crowd(Process):
    """The process beside the test. All its connections are open once it is entered."""

    def __init__(self, port: int, count: int, target: str) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < count + SPARE_FILES:
            pytest.skip(
                f"{count} connections need a hard limit of {count + SPARE_FILES} open files, not {hard}"
            )
        self._answered = 0
        command = [sys.executable, "-m", "tests.support.crowd", str(port), str(count), target]
        super().__init__(command, ROOT, os.environ, stdin=subprocess.PIPE)

    def wait_until_up(self) -> None:
        self.wait_for_output("^connected$", PATIENCE_SECONDS)

    def ask(self) -> Counter[str]:
        """Ask on every connection. Returns answer -> how many got it: a status, ``429`` and ``503`` only
        with Retry-After, ``wrong``, ``closed`` or ``none``."""
        self.send()
        return self.answers()

    def send(self) -> None:
        """Ask, and do not wait."""
        self.write_line("")

    def answers(self) -> Counter[str]:
        """Wait for the answers to what was sent."""

        def line() -> str | None:
            lines = [text for text in self.output.splitlines(keepends=True) if text.startswith("{")]
            if len(lines) > self._answered and lines[self._answered].endswith("\n"):
                return lines[self._answered]
            assert self.running, "the process of the connections has ended"
            return None

        found = wait_until(line, 2 * PATIENCE_SECONDS, "the answers to a crowd")
        self._answered += 1
        return Counter(json.loads(str(found)))


def main(port: int, count: int, target: str) -> None:
    """The process itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = {number: socket.create_connection(("127.0.0.1", port)) for number in range(count)}
    print("connected", flush=True)
    for _ in sys.stdin:
        print(json.dumps(ask_all(connections, target)), flush=True)


def ask_all(connections: dict[int, socket.socket], target: str) -> Counter[str]:
    """One request on each connection that is open."""
    outcomes: Counter[str] = Counter()
    with selectors.DefaultSelector() as selector:
        for number, connection in list(connections.items()):
            request = f"GET {target.format(number)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            try:
                connection.sendall(request.encode())
            except OSError:
                outcomes["closed"] += 1
                del connections[number]
                continue
            selector.register(connection, selectors.EVENT_READ, (number, bytearray()))
        while events := selector.get_map() and selector.select(PATIENCE_SECONDS):
            for key, _ in events:
                number, answer = key.data
                try:
                    part = connections[number].recv(65536)
                except OSError:
                    part = b""
                answer += part
                outcome = outcome_of(bytes(answer), number) if part else "closed"
                if outcome:
                    outcomes[outcome] += 1
                    selector.unregister(key.fileobj)
                if not part:
                    connections.pop(number).close()
        outcomes["none"] = len(selector.get_map())
    return +outcomes


def outcome_of(answer: bytes, number: int) -> str:
    """What the answer to a connection's request is; empty while it is not whole."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return ""
    first, *lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if len(body) < int(headers["content-length"]):
        return ""
    status = first.split()[1]
    if status == "200" and body.decode().split(" <---")[0].rsplit(" ", 1)[-1] != str(number):
        return "wrong"
    if status in ("429", "503") and "retry-after" not in headers:
        return f"{status} without Retry-After"
    return status


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
