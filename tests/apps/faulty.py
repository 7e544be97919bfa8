"""Tasks, and what an application does when it is imported, that find faults of the slow pool."""

import faulthandler
import os
import signal
import time
from collections.abc import Iterator

import slowpool
from slowpool.workers import progress, stack


def dies_of_the_signal_for_its_stack() -> None:
    faulthandler.unregister(stack.SIGNAL)
    signal.signal(stack.SIGNAL, signal.SIG_DFL)
    time.sleep(3600)


def writes_a_stack_with_an_absurd_line() -> None:
    faulthandler.unregister(stack.SIGNAL)
    fd = next(fd for fd in range(3, 100) if _is_shared(fd))

    def write(*_: object) -> None:
        os.lseek(fd, progress.SIZE, os.SEEK_SET)
        os.write(fd, b'  File "x", line %s in y\n' % (b"1" * 5000))

    signal.signal(stack.SIGNAL, write)
    while True:
        time.sleep(0.001)


def _is_shared(fd: int) -> bool:
    try:
        return "slowpool-progress" in os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False


def raises_what_is_large(size: int) -> None:
    raise ValueError("x" * size)


def tells_and_raises() -> None:
    slowpool.progress(1, 2, "half")
    time.sleep(0.3)
    raise ValueError("on purpose")


def tells() -> str:
    slowpool.progress(1, 2, "half")
    return "done"


def yields_little(count: int) -> Iterator[int]:
    yield from range(count)
