"""The output of a worker, in the log."""

import asyncio
import logging
import os

from slowpool.workers import records

log = logging.getLogger("slowpool.worker")

MAX_BYTES_PER_JOB = 2 * records.MAX_BYTES
"""How much of the output of a job is logged: a task that prints without end must not fill the log."""

PIPE_BYTES = 256 * 1024
"""More than a pipe holds."""


class OutputLog:
    """Logs the lines and log records that arrive on a pipe, with the request's id and the writer's pid.

    A record keeps its level and logger; it is logged if that logger logs this level here too.
    ``label`` names the writer in a line, and the field with its pid.
    """

    def __init__(self, fd: int, pid: int, label: str = "worker") -> None:
        self._fd: int | None = fd
        self._pid = pid
        self._label = label
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
            self._log_line(line)

    def _log_line(self, line: bytes) -> None:
        text, start, rest = line.rpartition(records.START)  # the task may have left its last line unfinished
        record = records.decode(start + rest)
        if record is None:
            text = line
        if text:
            self._log(logging.INFO, text.decode(errors="backslashreplace"))
        if record is not None:
            self._log_record(record)

    def _log_record(self, record: logging.LogRecord) -> None:
        logger = _known_logger(record.name)
        record.__dict__.update(self._extra())
        try:
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        except Exception:  # of a filter or a handler of the application's
            log.exception("a record of %s cannot be logged", record.name, extra=self._extra())

    def _log(self, level: int, text: str) -> None:
        log.log(level, "%s %d: %s", self._label, self._pid, text, extra=self._extra())

    def _extra(self) -> dict[str, object]:
        return {"request_id": self._request_id, self._label: self._pid}


def _known_logger(name: str) -> logging.Logger:
    """The logger of that name, or of its nearest parent that exists: a new one would never be freed."""
    known = logging.root.manager.loggerDict
    while name and not isinstance(known.get(name), logging.Logger):
        name = name.rpartition(".")[0]
    return logging.getLogger(name)
