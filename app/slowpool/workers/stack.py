"""Where the task of a worker is at this moment: its Python stack, by a signal. Standard library only.

faulthandler writes the stack in the signal's handler, without the interpreter, so it works while C code
holds the interpreter's lock, and the task goes on. It writes into the file that the worker shares with its
instance, behind the progress; both have the same file offset.
"""

import contextlib
import faulthandler
import os
import re
import signal

from slowpool.workers import progress

SIGNAL = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2

MAX_BYTES = 64 * 1024

MAX_FRAMES = 100
"""How many faulthandler writes. Not every Python says that there are more."""

FRAME = re.compile(rb'^  File "(.*)", line (\d{1,9}) in (.+)$', re.MULTILINE)

OWN = os.path.join("slowpool", "workers", "child.py")
"""The file that calls the task: the frames from there on are slowpool's own."""


def answer_signal(fd: int) -> None:
    """Write the stack of this process's main thread into the shared file whenever SIGNAL comes."""
    faulthandler.register(SIGNAL, os.fdopen(fd, "wb", 0, closefd=False), all_threads=False)


def prepare(fd: int) -> None:
    """Have the next stack written behind the progress."""
    os.lseek(fd, progress.SIZE, os.SEEK_SET)


def read(fd: int) -> tuple[list[str], bool]:
    """The frames that have been written since ``prepare``, the innermost first, and whether they are all.

    A frame is a text such as ``shop/pdf.py:27 in draw``.
    """
    written = 0
    with contextlib.suppress(OSError):
        written = os.lseek(fd, 0, os.SEEK_CUR) - progress.SIZE
    data = os.pread(fd, min(max(0, written), MAX_BYTES), progress.SIZE)
    frames: list[str] = []
    for file, line, function in FRAME.findall(data):
        name = os.fsdecode(file)
        if name.endswith(OWN):
            return frames, True
        frames.append(f"{name}:{int(line)} in {function.decode(errors='replace')}")
    return frames, len(frames) == MAX_FRAMES
