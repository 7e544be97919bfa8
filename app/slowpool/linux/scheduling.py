"""Who runs first, and for how long: time slices and priorities of this process.

Worker processes import this: standard library only.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct

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
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def run_delay_seconds(thread_id: int) -> float:
    """How long a thread of this process has waited for a CPU, in all; 0 where Linux does not count it.

    The second field of schedstat: https://docs.kernel.org/scheduler/sched-stats.html
    """
    try:
        with open(f"/proc/self/task/{thread_id}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Priority:
    """The niceness of this process and of its scheduling group.

    With CONFIG_SCHED_AUTOGROUP each session is one scheduling group, and nice counts only within it:
    sched(7), "The autogroup feature". A worker leads a session, so both are set. In a cgroup with a weight,
    as in a container, there are no autogroups. There a worker at the lowest niceness is SCHED_IDLE, since
    Linux treats a CPU that runs only such processes as idle. With autogroups SCHED_IDLE makes fast requests
    slower: their p99 with slow work on every core was 2.5 times the p99 without it, instead of 1.4 times
    (300/s, medians of nine alternating rounds, 2 cores).
    """

    def __init__(self, nice: int) -> None:
        os.nice(max(0, nice - os.nice(0)))
        if nice == LOWEST_NICE and has_cgroup_weight():
            with contextlib.suppress(OSError):  # a sandbox around the system may refuse
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._group_nice: int | None = nice
        self.apply()

    def apply(self) -> None:
        """Set the niceness of the group, unless it is set. Linux allows ten such writes a second in all."""
        if self._group_nice is None:
            return
        try:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(self._group_nice))
        except OSError as error:
            if error.errno == errno.EAGAIN:  # too many writes: the next call tries again
                return
        self._group_nice = None


def has_cgroup_weight(cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> bool:
    """Whether this process is scheduled as part of a cgroup: cgroups(7), and in version 2 cpu.weight."""
    try:
        with open(cgroups) as file:
            lines = file.read().splitlines()
    except OSError:  # not Linux
        return False
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(",") and path != "/":
            return True
        names = path.strip("/").split("/")
        folders = [os.path.join(root, *names[:depth]) for depth in range(len(names) + 1)]
        if not controllers and any(os.path.exists(f"{folder}/cpu.weight") for folder in folders):
            return True
    return False
