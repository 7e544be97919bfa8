"""The processes below this one: adopt them, list them, and end them. Standard library only."""

import contextlib
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Collection
from pathlib import Path

from slowpool.linux.libc import libc

# linux/prctl.h
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


def set_name(name: str) -> None:
    """Set the name that ``ps -o comm`` and ``top`` show for this process, at most 15 characters."""
    if sys.platform == "linux":
        libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends: PR_SET_CHILD_SUBREAPER, prctl(2).

    A process leaves neither by a session nor by an environment of its own.
    """
    if sys.platform == "linux":
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """The pids of this process's children, zombies included; empty where there is no /proc."""
    with contextlib.suppress(OSError):
        return {
            int(pid)
            for thread in os.listdir("/proc/self/task")
            for pid in Path(f"/proc/self/task/{thread}/children").read_text().split()
        }
    return {pid for pid in _all_pids() if _stat(pid)[1] == str(os.getpid())}


def has_living_child(spared: Collection[int] = ()) -> bool:
    """Whether a child of this process lives, except ``spared``."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return False
    return any(_stat(pid)[0] not in "ZX" for pid in children() - {*spared})


def kill_children(spared: Collection[int] = ()) -> bool:
    """Kill the children except ``spared``; returns whether there were any.

    Their own children become this process's when they end, if it has called adopt_orphans(): call it again
    then.
    """
    found = children() - {*spared}
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def kill_group(leader: int) -> None:
    """Kill the process group of this leader, which must not have been waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def count_threads() -> int:
    """The threads of this process, also those that are not Python's; 1 where there is no /proc."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def count_connections() -> int:
    """The stream sockets of this process that are connected; 0 where there is no /proc."""
    count = 0
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):  # not connected; or the folder's own
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    with socket.socket(fileno=os.dup(fd)) as found:
                        found.getpeername()
                        count += found.type == socket.SOCK_STREAM
    return count


def cpu_seconds(pid: int) -> float | None:
    """The CPU seconds of a process and its threads, not of its children: clock_getcpuclockid(3).

    None where that is not Linux, and once the process has gone.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED; no file of /proc has to be read
    except OSError:
        return None


def open_pidfd(pid: int) -> int | None:
    """A file descriptor that refers to the process: pidfd_open(2). None where there is none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # another system, an old kernel, or not allowed
        return None


def _all_pids() -> list[int]:
    try:
        return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    except OSError:
        return []


def _stat(pid: int) -> tuple[str, str]:
    """State and parent of a process: proc(5). A process that has gone is dead."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", ""
    return state, parent
