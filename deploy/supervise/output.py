"""Output: the log of a local run on its way to a stdout whose reader may pause."""

import contextlib
import fcntl
import logging
import os
import select
import selectors
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from slowpool.config import Config
from slowpool.observe import logs

BUFFER_BYTES = 1024 * 1024
"""What is kept for a reader that pauses. After that whole lines are dropped until it has read all of this."""

PIPE_BYTES = 512 * 1024
"""What each pipe holds where the kernel allows it, as Linux does; the default is 64 KiB."""

BATCH_SECONDS = 0.05
"""Pipes of that size are emptied at most this often, since waking up costs more than copying a line."""

LINE_BYTES = 64 * 1024
"""The longest beginning of a line that waits for the rest of it."""

FLUSH_SECONDS = 2.0
"""How long a reader may take, at the end, for what is kept."""


class Output:
    """While entered, stdout is a pipe, for this process and all that it starts, that never gets full.

    What comes through it, and through the named pipe ``access_log``, goes to what stdout was before. One
    thread empties the pipes, another writes: it may wait for the reader, where O_NONBLOCK would change the
    terminal for every process that has it. Lines that were dropped are counted in a line of the log.
    """

    def __init__(self, config: Config, access_log: Path) -> None:
        self._format = logs.formatter(config, "", "local").format
        self._access_log = access_log
        self._changed = threading.Condition()
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._dropped = 0
        self._ended = False
        self._writer = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self._access_log.parent.mkdir(parents=True, exist_ok=True)
        self._access_log.unlink(missing_ok=True)  # of a run that was killed
        os.mkfifo(self._access_log, 0o600)
        # Also open for writing: nginx does not wait for its reader, and can be started again.
        fifo = os.open(self._access_log, os.O_RDWR | os.O_NONBLOCK)
        pipe, stdout = os.pipe()
        self._stdout = os.dup(1)
        os.dup2(stdout, 1)
        os.close(stdout)
        threading.Thread(target=self._read, args=[pipe, fifo], daemon=True).start()
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is kept; no process that has the pipe may be left."""
        sys.stdout.flush()
        os.dup2(self._stdout, 1)
        self._writer.join(FLUSH_SECONDS)
        self._access_log.unlink(missing_ok=True)

    def _read(self, pipe: int, fifo: int) -> None:
        """Keep whole lines of both, until the pipe ends."""
        begun = {pipe: b"", fifo: b""}
        with selectors.DefaultSelector() as selector:
            for source in begun:
                selector.register(source, selectors.EVENT_READ)
            are_wide = all(_widen(source) for source in begun)
            at_end = False
            while not at_end:
                time.sleep(BATCH_SECONDS if are_wide else 0)
                for key, _ in selector.select():
                    data = os.read(key.fd, PIPE_BYTES)
                    at_end = at_end or not data
                    lines, begun[key.fd] = _split(begun[key.fd] + data)
                    self._keep(lines)
        with contextlib.suppress(BlockingIOError):
            while True:
                begun[fifo] += os.read(fifo, PIPE_BYTES)
        self._keep(begun[fifo])
        self._keep(begun[pipe])
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _keep(self, lines: bytes) -> None:
        with self._changed:
            if self._dropped or self._kept_bytes + len(lines) > BUFFER_BYTES:
                self._dropped += lines.count(b"\n")
            elif lines:
                self._kept.append(lines)
                self._kept_bytes += len(lines)
            self._changed.notify()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._dropped or self._ended)
                if self._kept:
                    lines = self._kept.popleft()
                elif self._dropped:
                    lines = self._count()
                    self._kept_bytes += len(lines)
                else:
                    return
            _put(self._stdout, lines)
            with self._changed:
                self._kept_bytes -= len(lines)

    def _count(self) -> bytes:
        """The line about what was dropped; it is dropped no more."""
        record = {
            "name": "output",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "%d lines of the log were dropped here: nothing read stdout",
            "args": (self._dropped,),
            "dropped": self._dropped,
        }
        self._dropped = 0
        return f"{self._format(logging.makeLogRecord(record))}\n".encode()


def _widen(pipe: int) -> bool:
    """Whether the pipe now holds PIPE_BYTES."""
    try:
        return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES) >= PIPE_BYTES
    except (AttributeError, OSError):  # macOS has no such call, and a user may have too many large pipes
        return False


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The whole lines, and the beginning of the next one unless that is too long to wait for."""
    end = data.rfind(b"\n") + 1
    return (data, b"") if len(data) - end > LINE_BYTES else (data[:end], data[end:])


def _put(fd: int, data: bytes) -> None:
    """Write all of it, however long that takes; it is lost when there is no reader any more."""
    with contextlib.suppress(OSError):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # another process has made it non-blocking
                select.select([], [fd], [])
