"""A socket whose end means that this process must not go on. Standard library only."""

import contextlib
import fcntl
import os
import signal


def hold(fd: int) -> None:
    """Have the kernel kill this process group when the other end of the socket closes, or sends anything.

    The socket then has SIGIO, for which SIGKILL is set: fcntl(2), F_SETSIG. This needs no thread, and works
    while a task holds the interpreter's lock. Elsewhere than on Linux it does nothing.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        if not os.read(fd, 1):  # it closed before the kernel was asked to watch it
            os.killpg(0, signal.SIGKILL)


def release(fd: int) -> None:
    """Undo ``hold``."""
    if hasattr(fcntl, "F_SETSIG"):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~(os.O_ASYNC | os.O_NONBLOCK))
