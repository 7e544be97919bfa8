"""The log of a local run on its way to stdout: its reader stops nothing, and what it misses is counted."""

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.system import System

REQUESTS = 10_000
CONNECTIONS = 16  # nginx closes one after 1000 requests
DROPPED = r"(\d+) lines of the log were dropped"


class Piped(System):
    """A system whose stdout is the stdin of ``cat``, which can pause."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._read = folder / "read"
        with self._read.open("wb") as file:
            self.reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        assert self.reader.stdin
        super().__init__(stdout=self.reader.stdin, FAST_PROCESSES=1, SLOW_PROCESSES=1, **settings)
        self.reader.stdin.close()

    def clean_up(self) -> None:
        super().clean_up()
        self.reader.send_signal(signal.SIGCONT)
        self.reader.wait()

    @property
    def raw_output(self) -> bytes:
        return self._read.read_bytes() + super().raw_output


@pytest.mark.parametrize("log_format", ["json", pytest.param("console", marks=pytest.mark.long)])
def test_a_reader_that_pauses_stops_no_request_and_the_lines_that_it_misses_are_counted(
    tmp_path: Path, log_format: str
) -> None:
    with Piped(tmp_path, LOG_FORMAT=log_format, LOG_LEVEL="error") as system:
        system.reader.send_signal(signal.SIGSTOP)
        assert asyncio.run(answers(system.port)) == {200: REQUESTS}
        system.reader.send_signal(signal.SIGCONT)
        dropped = re.findall(DROPPED, system.wait_for_output(DROPPED))

        def found() -> int:
            return len(set(re.findall(r"\brequest-\d+\b", system.output)))

        wait_until(lambda: int(dropped[0]) + found() >= REQUESTS)  # nginx keeps the last lines for a second
        assert int(dropped[0]) + found() == REQUESTS
        assert 0 < found() < REQUESTS
        assert re.findall(DROPPED, system.output) == dropped


def test_a_system_stops_in_order_while_nothing_reads_its_stdout(tmp_path: Path) -> None:
    with Piped(tmp_path) as system:
        system.reader.send_signal(signal.SIGSTOP)
        asyncio.run(answers(system.port))
        assert system.stop() == 0


OUTPUT = """
import array, fcntl, os, sys, termios, time
from pathlib import Path
from deploy.supervise.output import Output
from slowpool.config import Config

def write(pipe, text):  # and return when it has been read
    os.write(pipe, text)
    left = array.array("i", [1])
    while left[0]:
        time.sleep(0.01)
        fcntl.ioctl(pipe, termios.FIONREAD, left)

with Output(Config(), Path(sys.argv[1])):
    fifo = os.open(sys.argv[1], os.O_WRONLY)
    for number in range(3):
        write(1, b"%d of stdout begins, " % number)
        write(fifo, b"%d of the pipe begins, " % number)
        write(1, b"ends\\nnext ")
        write(fifo, b"ends\\n")
        write(1, b"ends\\n")
    os.write(1, b"has no end")
    os.write(fifo, b"is the last of the pipe\\n")
print(", and then stdout as it was")
"""


def test_lines_of_both_pipes_arrive_whole_and_all_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OUTPUT, str(tmp_path / "pipe")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    expected = [
        line
        for number in range(3)
        for line in (f"{number} of stdout begins, ends", f"{number} of the pipe begins, ends", "next ends")
    ]
    *lines, last, after = re.split("\n|(?=, and then)", done.stdout.strip())
    assert sorted([*lines, last]) == sorted([*expected, "has no end", "is the last of the pipe"])
    assert after == ", and then stdout as it was"


MANY_LINES = """
import os, sys
from pathlib import Path
from deploy.supervise.output import Output
from slowpool.config import Config

with Output(Config(), Path(sys.argv[1])):
    os.write(1, b"a line\\n" * 30_000)
    sys.stdin.read()
"""


def test_a_stdout_that_another_process_has_made_non_blocking_gets_everything(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    command = [sys.executable, "-c", MANY_LINES, str(tmp_path / "pipe")]
    with (
        open(readable, "rb") as stdout,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=writable) as process,
    ):
        os.close(writable)
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        assert poll.poll(30_000)  # it cannot take all of it at once
        assert process.stdin
        process.stdin.close()
        assert stdout.read() == b"a line\n" * 30_000


async def answers(port: int) -> Counter[int]:
    """The statuses of REQUESTS requests, whose ids are long and have their number."""

    async def ask(first: int) -> list[int]:
        statuses = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, REQUESTS, CONNECTIONS):
            request_id = f"request-{number:056d}"
            writer.write(
                f"GET /fast?id=7 HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
            statuses.append(int(head.split()[1]))
        writer.close()
        return statuses

    asked = await asyncio.gather(*(ask(first) for first in range(CONNECTIONS)))
    return Counter(status for statuses in asked for status in statuses)
