"""CPU time: of processes, and of the whole machine."""

import contextlib
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil


class Process(NamedTuple):
    """A process, for ever: pids are used again."""

    pid: int
    started_at: float


Seconds = dict[Process, float]


def by_process(processes: Iterable[psutil.Process]) -> Seconds:
    """The CPU seconds of these processes so far."""
    found: Seconds = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[Process(process.pid, process.create_time())] = times.user + times.system
    return found


def spent(before: Seconds, after: Seconds, without: Iterable[int] = ()) -> float:
    """The CPU seconds between the two, of the processes that are in ``after``, without some pids."""
    left_out = set(without)
    return sum(
        seconds - before.get(process, 0) for process, seconds in after.items() if process.pid not in left_out
    )


def of_threads(pid: int) -> float:
    """The CPU seconds of a process's threads that have not ended, to the nanosecond.

    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def of_the_machine() -> float:
    """CPU seconds of the whole machine, including ended processes and containers."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def of_ended_children() -> float:
    """CPU seconds of this process's children that have ended, such as load generators."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rate_of(counter: Callable[[], float], seconds: float) -> float:
    """By how much the counter grows in a second."""
    before, start = counter(), time.perf_counter()
    time.sleep(seconds)
    return (counter() - before) / (time.perf_counter() - start)
