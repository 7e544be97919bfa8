"""Who runs first, and for how long: time slices and priorities of this process.

Worker processes import this: standard library only.
"""

import contextlib
import errno
import os
import platform
import struct
from collections.abc import Collection

from slowpool.linux.libc import libc

SHORT_SLICE_SECONDS = 0.0001
"""The shortest slice that Linux grants. A process with short slices gets the CPU sooner."""

LOWEST_NICE = 19

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""sched_setattr(2), for which the C library has a function only since glibc 2.41."""


def request_slice(seconds: float) -> None:
    """Ask for time slices of this length, 0 for the system's default; children inherit it.

    For SCHED_OTHER, Linux 6.12 and newer take ``sched_runtime`` as the slice (EEVDF): a process that wakes up
    interrupts one whose slice is longer. Elsewhere this does nothing.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return
    # struct sched_attr: size, policy (SCHED_OTHER), flags, nice, priority, runtime, deadline, period.
    attributes = struct.pack("IIQiIQQQ", 48, 0, 0, os.nice(0), 0, int(seconds * 1e9), 0, 0)
    libc.syscall(number, 0, attributes, 0)


class RunDelay:
    """How long a thread of this process has waited for a CPU. A file stays open while the process runs.

    The second field of schedstat: https://docs.kernel.org/scheduler/sched-stats.html
    """

    def __init__(self, thread_id: int) -> None:
        self._file = -1
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/self/task/{thread_id}/schedstat", os.O_RDONLY)

    def seconds(self) -> float:
        """In all; 0 where Linux does not count it."""
        try:
            return int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0


def give_way(nice: int) -> None:
    """Set the niceness of this process. Its scheduling group has one too: set_group_nice.

    In a cgroup with a weight, as in a container, there are no autogroups. There a process at the lowest
    niceness is SCHED_IDLE, since Linux treats a CPU that runs only such processes as idle. With autogroups
    SCHED_IDLE makes fast requests slower: their p99 with slow work on every core was 2.5 times the p99
    without it, instead of 1.4 times (300/s, medians of nine alternating rounds, 2 cores).
    """
    os.nice(max(0, nice - os.nice(0)))
    if nice == LOWEST_NICE and has_cgroup_weight():
        with contextlib.suppress(OSError):  # a sandbox around the system may refuse
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def set_group_nice(nice: int, pid: int | str = "self") -> bool:
    """Set the niceness of the autogroup of a process; returns False when it should be tried again.

    With CONFIG_SCHED_AUTOGROUP each session is one scheduling group, and nice counts only within it:
    sched(7), "The autogroup feature". Unlike its own niceness, a process may lower that of its group again.
    Linux allows ten such writes a second in all.
    """
    try:
        with open(f"/proc/{pid}/autogroup", "w") as file:
            file.write(str(nice))
    except OSError as error:
        return error.errno != errno.EAGAIN  # too many writes
    return True


def count_cpus(
    only: Collection[int] = (), cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup"
) -> float:
    """The CPUs that this process may use: its affinity, and the quota of its cgroups (cgroups(7), cpu.max).

    ``only`` restricts them to these; empty means no restriction.
    """
    count: float = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        available = os.sched_getaffinity(0)
        count = len(available & {*only} if only else available)
    for controllers, path in _read_cgroups(cgroups):
        if controllers and "cpu" not in controllers:
            continue
        for folder in _folders(",".join(controllers), path, root):
            quota, period = _quota(folder)
            if quota > 0 and period > 0:
                count = min(count, quota / period)
    return count


def _quota(folder: str) -> tuple[int, int]:
    """Microseconds of CPU time in each period, and the period; 0 where there is no quota."""
    with contextlib.suppress(OSError, ValueError):  # version 2; "max" is no quota
        with open(f"{folder}/cpu.max") as file:
            quota, period = file.read().split()
        return int(quota), int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1; -1 is no quota
        with open(f"{folder}/cpu.cfs_quota_us") as file:
            found = int(file.read())
        with open(f"{folder}/cpu.cfs_period_us") as file:
            return found, int(file.read())
    return 0, 0


def _folders(controllers: str, path: str, root: str) -> list[str]:
    """The folder of a cgroup and those above it, from the root on.

    A container may see its own cgroup as the root, whatever the path says.
    """
    names = path.strip("/").split("/")
    return [os.path.join(root, controllers, *names[:depth]) for depth in range(len(names) + 1)]


def _read_cgroups(file_name: str) -> list[tuple[list[str], str]]:
    """This process's cgroups: controllers, none for version 2, and path. Empty where this is not Linux."""
    try:
        with open(file_name) as file:
            lines = [line.split(":", 2) for line in file.read().splitlines()]
    except OSError:
        return []
    return [(controllers.split(",") if controllers else [], path) for _, controllers, path in lines]


def has_cgroup_weight(cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> bool:
    """Whether this process is scheduled as part of a cgroup: cgroups(7), and in version 2 cpu.weight."""
    for controllers, path in _read_cgroups(cgroups):
        if "cpu" in controllers and path != "/":
            return True
        folders = _folders("", path, root)
        if not controllers and any(os.path.exists(f"{folder}/cpu.weight") for folder in folders):
            return True
    return False
