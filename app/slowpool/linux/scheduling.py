"""The length of a process's turns on a CPU."""

import ctypes
import os
import platform
import struct

SHORT_SLICE_SECONDS = 0.0001
"""The shortest that Linux grants. Whoever asks for short turns is given its turn sooner."""

SYSCALL = {"x86_64": 314, "aarch64": 274}
"""sched_setattr(2), which the C library has a function for only since glibc 2.41."""


def request_slice(seconds: float) -> None:
    """Ask for turns of this length, 0 for the system's default; children inherit it.

    For SCHED_OTHER Linux 6.12 and newer take ``sched_runtime`` as the slice (EEVDF): a process that wakes up
    interrupts one whose slice is longer. Elsewhere this does nothing.
    """
    number = SYSCALL.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return
    # struct sched_attr: size, policy (SCHED_OTHER), flags, nice, priority, runtime, deadline, period.
    attributes = struct.pack("IIQiIQQQ", 48, 0, 0, os.nice(0), 0, int(seconds * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
