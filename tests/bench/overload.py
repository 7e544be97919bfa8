"""Ten times the slow requests that the cores can do."""

import time
from collections.abc import Iterator

from tests.bench import cpu
from tests.bench.loads import FAST_RATE, JOB_SIZE, background, bare_pool, failed, latencies, open_loop
from tests.bench.openloop import Answer, percentile
from tests.bench.options import Figures, Options
from tests.bench.running import Running
from tests.bench.systems import System

FACTOR = 10
PATIENCE_SECONDS = 10

IDLE_SECONDS = 2
"""For which the idle system is looked at before."""


def overload(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Ten times the slow requests that the cores can do; first without fast requests, then with them."""
    capacity = bare_pool(min(5.0, options.overload / 4))
    seconds = options.overload / 2
    idle = open_loop(running, "/fast?id=1", FAST_RATE, options.half)
    path = f"{system.slow}?id=1&n={JOB_SIZE}"
    others = Others(running)
    slow = open_loop(running, path, FACTOR * capacity, seconds, PATIENCE_SECONDS)
    others_seconds = others.seconds()
    in_time = [a for a in slow if a.status == 200 and a.due_seconds + a.latency_seconds <= seconds]
    refused = [a for a in slow if a.status == 503]
    with background(running, path, FACTOR * capacity, seconds, PATIENCE_SECONDS):
        time.sleep(1)
        beside = open_loop(running, "/fast?id=1", FAST_RATE, seconds - 2)
    figures: Figures = {
        "capacity_per_second": capacity,
        "goodput_ratio": len(in_time) / seconds / capacity,
        "refused": len(refused),
        "failed": len([a for a in slow if a.status not in (200, 503)]),
        "sent": len(slow),
        "fast_idle_p99_seconds": percentile(latencies(idle), 99),
        "fast_p99_seconds": percentile(latencies(beside), 99),
        "fast_failed": failed(beside),
    }
    figures["fast_ratio"] = figures["fast_p99_seconds"] / figures["fast_idle_p99_seconds"]
    if refused:
        figures["refusal_cpu_seconds"] = others_seconds / len(refused)
        figures["refusal_p50_seconds"] = percentile(latencies(refused), 50)
        figures["refusal_p99_seconds"] = percentile(latencies(refused), 99)
        errors = list(_retry_after_errors(slow))
        if errors:
            figures["retry_after_error_p50_seconds"] = percentile(errors, 50)
            figures["retry_after_error_p90_seconds"] = percentile(map(abs, errors), 90)
    return figures


class Others:
    """The CPU time of a system without its workers, without what it takes while it is idle.

    What the accepted jobs cost outside of the workers is part of it.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        before, start = self._seconds(), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        self._before, self._start = self._seconds(), time.perf_counter()
        self._idle_cores = self._spent(before, self._before) / (self._start - start)

    def seconds(self) -> float:
        """That since the object was made."""
        after = self._seconds()
        return self._spent(self._before, after) - self._idle_cores * (time.perf_counter() - self._start)

    def _seconds(self) -> cpu.Seconds:
        return cpu.by_process([*self._running.all(), *self._running.supervision()])

    def _spent(self, before: cpu.Seconds, after: cpu.Seconds) -> float:
        return cpu.spent(before, after, without={process.pid for process in self._running.workers()})


def _retry_after_errors(answers: list[Answer]) -> Iterator[float]:
    """For each refusal, by how many seconds its ``Retry-After`` is more than what the jobs ahead took.

    Those are the jobs that the same instance had accepted before; it is a whole number of seconds, so that
    0 to 1 is as good as can be.
    """
    for served_by in {a.served_by for a in answers if a.status == 503}:
        ours = [a for a in answers if a.served_by == served_by]
        accepted = [(a.due_seconds, a.due_seconds + a.latency_seconds) for a in ours if a.status == 200]
        for refusal in ours:
            at = refusal.due_seconds + refusal.latency_seconds
            ends = [end for due, end in accepted if due < at < end]
            if refusal.status == 503 and ends:
                yield refusal.retry_after_seconds - (max(ends) - at)
