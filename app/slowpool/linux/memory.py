"""The memory of this process."""

import resource


def resident_bytes() -> int:
    """Resident memory of this process in bytes; the peak where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
