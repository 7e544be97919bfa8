"""The memory of this process: how much it has, how much it may have, and who goes first when it runs out.

Worker processes import this: standard library only.
"""

import contextlib
import resource
from collections.abc import Iterator

from slowpool.linux.libc import libc

PAGE_BYTES = resource.getpagesize()


def resident_bytes() -> int:
    """Resident memory of this process in bytes; the peak where there is no /proc."""
    return resident_bytes_of("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes_of(pid: int | str) -> int | None:
    """Resident memory of a process; None where there is no /proc, and once it has gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return None


def return_free_pages() -> None:
    """Return what was freed between objects in use to the kernel: malloc_trim(3); nothing without glibc.

    The allocator by itself returns only what is free at the end of its heap.
    """
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def limit(allocated_bytes: int) -> None:
    """Have this process allocate no more than this beyond what it has: RLIMIT_DATA, setrlimit(2)."""
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as statm:
        allocated_bytes += int(statm.read().split()[5]) * PAGE_BYTES
    most = min(allocated_bytes, MOST_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


MOST_BYTES = 2**63 - 1
"""setrlimit takes no more."""

OOM_SCORE_ADJ = "/proc/self/oom_score_adj"

FIRST_FOR_OOM_KILLER = 1000
"""The highest value of OOM_SCORE_ADJ, which all descendants inherit: proc(5)."""


def volunteer_for_oom_killer() -> None:
    """Have the kernel kill this process first when memory runs out."""
    # Not Linux, or not allowed: the kernel then chooses by size.
    with contextlib.suppress(OSError), open(OOM_SCORE_ADJ, "w") as file:
        file.write(str(FIRST_FOR_OOM_KILLER))


@contextlib.contextmanager
def volunteering_for_oom_killer() -> Iterator[None]:
    """Do so for the block; what is started in it goes on with that."""
    try:
        with open(OOM_SCORE_ADJ) as file:
            before = file.read()
    except OSError:
        before = ""
    volunteer_for_oom_killer()
    yield
    with contextlib.suppress(OSError):
        if before:
            with open(OOM_SCORE_ADJ, "w") as file:
                file.write(before)


def has_volunteered(pid: int | str = "self") -> bool:
    """Whether this process, or one that it descends from, has done so."""
    try:
        with open(f"/proc/{pid}/oom_score_adj") as file:
            return int(file.read()) == FIRST_FOR_OOM_KILLER
    except OSError:
        return False
