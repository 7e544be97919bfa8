"""What a worker prints, as log lines."""

import asyncio
import logging
import os

log = logging.getLogger("slowpool.worker")

MAX_BYTES_PER_JOB = 64 * 1024
"""How much of the output of a job is logged: a task that prints without end must not fill the log."""

PIPE_BYTES = 256 * 1024
"""More than a pipe holds."""


class OutputLog:
    """Logs what comes through a pipe, line by line, with the worker's pid and the request's id."""

    def __init__(self, fd: int, pid: int, label: str = "worker") -> None:
        self._fd: int | None = fd
        self._pid = pid
        self._line = b""
        self.begin("")
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def begin(self, request_id: str) -> None:
        """Take what comes from now on as the output of a job for this request."""
        self._request_id = request_id
        self._left = MAX_BYTES_PER_JOB
        self._dropped = 0

    def end(self) -> None:
        """Log what is left of the job's output, and how much was not logged."""
        if self._fd is not None:
            self._read()
        if self._line:
            self._log_lines(b"")
        if self._dropped:
            self._log(logging.WARNING, f"{self._dropped} more bytes of output are not logged")
        self.begin("")

    def close(self) -> None:
        """End, and close the pipe."""
        self.end()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _read(self) -> None:
        assert self._fd is not None
        try:
            data = os.read(self._fd, PIPE_BYTES)
        except BlockingIOError:
            return
        if not data:  # every writer is gone
            self._loop.remove_reader(self._fd)
        kept = data[: self._left]
        self._left -= len(kept)
        self._dropped += len(data) - len(kept)
        if kept:
            self._log_lines(kept)

    def _log_lines(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or not self._left:  # nothing more will be logged of this job
            lines.append(self._line)
            self._line = b""
        for line in filter(None, lines):
            self._log(logging.INFO, line.decode(errors="backslashreplace"))

    def _log(self, level: int, text: str) -> None:
        extra = {"request_id": self._request_id, "worker": self._pid}
        log.log(level, "worker %d: %s", self._pid, text, extra=extra)
