"""progress: how far a job is, from the task to whoever looks.

A worker and its instance share a file in memory. The task writes the newest values into its first bytes,
which takes two microseconds and wakes nobody; the instance reads them when somebody asks. Behind them is room
for the stack of the running task, see stack.py. Standard library only.
"""

import contextlib
import mmap
import os
import struct
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

MAX_MESSAGE_BYTES = 200

PAGE = struct.Struct(f"!QQddH{MAX_MESSAGE_BYTES}s")
"""Count of writes, number of the job, done, total, size of the message, message."""

COUNT = struct.Struct("!Q")

BEGUN = struct.Struct("!Q")
"""After the page: number of the job that the worker has begun last."""

SIZE = mmap.PAGESIZE

Listener = Callable[[float, float | None, str], Any]

listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
"""Who is told where there is no instance and the task runs in a thread."""


class Progress(NamedTuple):
    """How far a job is: ``done`` of ``total``, whose unit is the task's own; None where it is not known."""

    done: float
    total: float | None
    message: str

    @property
    def fraction(self) -> float | None:
        """From 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


def make_file() -> int:
    """A file in memory for one worker and its instance; returns its descriptor."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("slowpool-progress")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SIZE)
    return fd


def read(fd: int, number: int) -> Progress | None:
    """The progress of the job with this number, None while its task has not told any.

    It does not map the file: a task could make it shorter, and the next look would end the instance.
    """
    for _ in range(10):
        data = os.pread(fd, PAGE.size, 0)
        if len(data) < PAGE.size:
            return None
        count, job, done, total, size, message = PAGE.unpack(data)
        if count % 2 == 0 and data[: COUNT.size] == os.pread(fd, COUNT.size, 0):
            if job != number:
                return None
            text = message[: min(size, MAX_MESSAGE_BYTES)].decode(errors="replace")
            return Progress(done, total if total == total else None, text)
    return None  # the task writes all the time


def has_begun(fd: int, number: int) -> bool:
    """Whether the worker has begun the job with this number. It may have ended since."""
    return os.pread(fd, BEGUN.size, PAGE.size) == BEGUN.pack(number)


class Page:
    """The writing end, in a worker."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._count = 0
        self._number: int | None = None
        self._lock = threading.Lock()

    def begin(self, number: int) -> None:
        """Write that this job has begun, and its progress from now on."""
        BEGUN.pack_into(self._map, PAGE.size, number)
        self._number = number

    def end(self) -> None:
        """Write nothing until the next job begins."""
        self._number = None

    def write(self, done: float, total: float | None, message: str) -> None:
        """Write the newest values."""
        number = self._number
        if number is None:
            return
        text = message.encode(errors="replace")[:MAX_MESSAGE_BYTES] if message else b""
        known = float("nan") if total is None else total
        with self._lock:
            self._count += 2
            # The count is odd while the rest is written.
            COUNT.pack_into(self._map, 0, self._count - 1)
            PAGE.pack_into(self._map, 0, self._count - 1, number, done, known, len(text), text)
            COUNT.pack_into(self._map, 0, self._count)


_page: Page | None = None


def open_page(fd: int) -> Page:
    """Have ``progress`` write to this file in this process, and not in one that it forks."""
    global _page
    _page = page = Page(fd)
    os.register_at_fork(after_in_child=_close_page)
    return page


def _close_page() -> None:
    global _page
    _page = None


def progress(done: float, total: float | None = None, message: str = "") -> None:
    """Tell how far the running task is: ``done`` of ``total``, in any unit; ``message`` has up to 200 bytes.

    It costs about two microseconds, so it can be called for each row. Whoever looks sees the newest values:
    the status page, ``slowpool status`` and ``run(..., on_progress=f)``. Outside of a task it does nothing.
    """
    if _page:
        _page.write(done, total, message)
    elif tell := listener.get():
        with contextlib.suppress(RuntimeError):  # nobody listens any more
            tell(done, total, message)
