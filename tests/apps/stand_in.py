"""``python -m tests.apps.stand_in FOLDER PORT``: in place of an instance, for tests of the watchdog.

It listens and answers ``/-/livez``, unless there is a file ``PORT.WAY``: ``die`` ends it without output,
``hang`` never answers, ``drip`` sends the status line for ever, ``flood`` sends far too much, ``large``
takes memory, ``drain`` keeps it after SIGTERM until the file is gone, ``beat`` makes progress, and with
``restart`` wants to be restarted.
``PORT.answers`` has a byte for each answer.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from slowpool.observe.heartbeat import Heartbeat

FLOOD = b"x" * (1 << 20)


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    kept: list[bytes] = []

    def told(way: str) -> bool:
        return (folder / f"{port}.{way}").exists()

    def end(*_: object) -> None:
        listener.close()
        while told("drain"):
            time.sleep(0.05)
        os._exit(0)

    if told("die"):
        time.sleep(1.2)  # supervisor takes it for started
        os._exit(1)
    if told("beat"):
        threading.Thread(target=beat, args=(Heartbeat(folder, port), told), daemon=True).start()
    with socket.create_server(("127.0.0.1", port)) as listener:
        signal.signal(signal.SIGTERM, end)
        while True:
            connection, _ = listener.accept()
            if told("large") and not kept:
                kept.append(b"x" * (100 << 20))
            threading.Thread(
                target=answer, args=(connection, told, folder / f"{port}.answers"), daemon=True
            ).start()


def beat(heartbeat: Heartbeat, told: Callable[[str], bool]) -> None:
    while True:
        heartbeat.wants_restart = told("restart")
        heartbeat.beat()
        time.sleep(0.05)


def answer(connection: socket.socket, told: Callable[[str], bool], answers: Path) -> None:
    with connection:
        connection.recv(4096)
        if told("hang"):
            time.sleep(1000)
        try:
            while told("drip"):
                connection.sendall(b"H")
                time.sleep(0.1)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(400 if told("flood") else 0):
                connection.sendall(FLOOD)
        except OSError:
            pass  # the client has seen enough
        with answers.open("a") as file:
            file.write("x")


if __name__ == "__main__":
    main()
