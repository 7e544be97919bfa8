"""One plain Tornado process, to compare with: the task that starts it and asks it, and that process."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from queue import SimpleQueue

SLOW, FAST, LANES = 3, 20, 3
"""Slow and fast requests, and the connections on which the fast ones take turns: of the 6 that a browser
opens to a host, those that the slow ones leave."""


def comparison(n: int) -> Iterator[str]:
    """Serve the demo with Tornado alone, in one process, and send it slow requests and fast ones at once.

    Yields lines of JSON: ``pid`` once the process serves; then twice for each request ``path``, ``id`` and
    ``at``, in milliseconds: when it was sent, and with ``status`` when its answer was complete. The process
    is a child of the worker, and ends with the job.
    """
    with _plain_process() as (pid, port):
        _status_of(port, "/fast?id=0", lambda: None)
        yield _line(pid=pid)
        began = time.perf_counter()
        lines: SimpleQueue[str | Exception] = SimpleQueue()

        def ask(path: str, number: int) -> None:
            def tell(**more: object) -> None:
                lines.put(_line(path=path, id=number, **more))

            def elapsed_ms() -> float:
                return round((time.perf_counter() - began) * 1000, 1)

            try:
                sent_at = elapsed_ms()
                status = _status_of(port, f"{path}?id={number}&n={n}", lambda: tell(at=sent_at))
                tell(at=elapsed_ms(), status=status)
            except Exception as error:
                lines.put(error)

        def ask_in_turn(numbers: Iterator[int]) -> None:
            for number in numbers:
                ask("/fast", number)

        with ThreadPoolExecutor(SLOW + LANES) as threads:
            told = []
            for number in range(1, SLOW + 1):
                threads.submit(ask, "/slow", number)
                told.append(lines.get())  # it has been sent, before the next one and all fast ones
            turns = iter(range(1, FAST + 1))
            for _ in range(LANES):
                threads.submit(ask_in_turn, turns)
            for index in range(2 * (SLOW + FAST)):
                line = told[index] if index < len(told) else lines.get()
                if isinstance(line, Exception):
                    raise line
                yield line


@contextlib.contextmanager
def _plain_process() -> Iterator[tuple[int, int]]:
    """The process, while the block runs: its pid, and its port on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.plain", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def _status_of(port: int, target: str, on_sent: Callable[[], None]) -> int:
    """Send a GET and read the whole answer; returns its status."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", target)
        on_sent()
        response = connection.getresponse()
        response.read()
        return response.status


def _line(**content: object) -> str:
    return json.dumps(content) + "\n"


async def _serve(listener: socket.socket) -> None:
    from tornado.httpserver import HTTPServer

    from demo import make_app

    listener.setblocking(False)
    HTTPServer(make_app()).add_socket(listener)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
