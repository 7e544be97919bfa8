"""``slowpool capacity``: how many instances, workers, replicas and cores a load needs.

deploy/README.md, "How big?", compares these formulas with a simulation and with the real system.
"""

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from slowpool.config import Config
from slowpool.errors import ConfigError
from slowpool.workers.pool import worker_count

# Measured on the reference machine: "cost" in tests/bench/results.json. A test compares the two.
LOOP_MS = 0.17
"""Time of a fast request on its instance's only thread: 1 / ``direct_per_second``, in containers."""
INSTANCE_CPU_MS = 0.18
"""CPU time of a fast request in an instance and on the network: ``direct_cpu_seconds``, in containers."""
NGINX_CPU_MS = 0.15
"""CPU time of a request in nginx: ``edge_cpu_seconds`` - ``direct_cpu_seconds``, without containers. In
containers a direct request crosses Docker's bridge, which costs CPU too and would distort the difference."""

MOST_WORKERS = 1_000_000
MOST = 1_000_000_000


class Wait(NamedTuple):
    """The wait of a job: with this probability exponential with this mean, otherwise none."""

    probability: float
    seconds_if_any: float

    @property
    def mean_seconds(self) -> float:
        """The mean over all jobs."""
        return self.probability * self.seconds_if_any

    @property
    def p95_seconds(self) -> float:
        """The wait that 95 % of all jobs do not exceed."""
        return self.seconds_if_any * math.log(max(1, self.probability / 0.05))


def one_queue(rate: float, seconds: float, scv: float = 1) -> Iterator[tuple[int, Wait]]:
    """For 1, 2, … workers, how long jobs wait in one common queue.

    M/M/c: Poisson arrivals, exponential times, Erlang C. Source: R. Cooper, Introduction to Queueing Theory
    (2nd ed., 1981), 3.4 to 3.6; so is the recursion of Erlang B. For other distributions, ``scv`` is the
    squared coefficient of variation of the times, and waits are (1 + scv) / 2 times as long: the
    Allen–Cunneen approximation, exact for one worker. Source: A. O. Allen, Probability, Statistics and
    Queueing Theory (2nd ed., 1990), 5.3.
    """
    offered = rate * seconds
    for workers, blocked in _erlang_b(offered):
        if workers > offered:
            probability = blocked / (1 - offered / workers * (1 - blocked))
            yield workers, Wait(probability, seconds / (workers - offered) * (1 + scv) / 2)


def shortest_queue(rate: float, seconds: float, scv: float = 1, each: int = 1) -> Iterator[tuple[int, Wait]]:
    """The same for instances with ``each`` workers and a queue each, behind nginx's least_conn.

    This approximation is the project's own; deploy/README.md shows its error. An instance with a waiting job
    gets no new one. The other instances form a loss system (Erlang B), and the jobs that it loses are the
    ones that wait. The number of workers with waiting jobs follows from Little's law. A waiting job waits for
    the first of ``each`` workers to finish, plus its wait in one common queue.
    """
    offered = rate * seconds
    alone = seconds / each * (1 + scv) / 2
    queues = one_queue(rate, seconds, scv)
    before = 1.0
    size, one = next(queues)
    for rest, blocked in _erlang_b(offered):
        while size < rest + offered * blocked:
            both = alone + one.seconds_if_any
            yield size, Wait((before * alone + one.mean_seconds) / both if both else 0.0, both)
            size, one = next(queues)
        before = blocked


def fewest(p95_wait: float, sizes: Iterator[tuple[int, Wait]], each: int = 1) -> tuple[int, Wait]:
    """The smallest multiple of ``each`` with which 95 % of the jobs wait at most ``p95_wait`` seconds."""
    return next((size, wait) for size, wait in sizes if size % each == 0 and wait.p95_seconds <= p95_wait)


def _erlang_b(offered: float) -> Iterator[tuple[int, float]]:
    """For 1, 2, … workers, the probability that all are busy if no job can wait."""
    blocked = 1.0
    for workers in itertools.count(1):
        blocked = offered * blocked / (workers + offered * blocked)
        yield workers, blocked


def main(arguments: Sequence[str]) -> int:
    """Print the sizes; returns the exit status."""
    parser = _Parser(
        prog="slowpool capacity",
        description="How many instances, workers, replicas and cores a load needs, with SLOW_WORKERS, "
        "FAST_PROCESSES and SLOW_PROCESSES of the settings.",
    )
    for name, text in (
        ("fast-rps", "fast requests a second"),
        ("slow-rps", "slow requests a second"),
        ("slow-seconds", "how long a slow job runs, on the mean"),
        ("slow-p95-wait", "seconds that 95 %% of the slow jobs may at most wait before they run"),
    ):
        parser.add_argument(f"--{name}", type=_number, required=True, metavar="N", help=text)
    for name, default, text in (
        ("slow-scv", 1.0, "squared coefficient of variation of the jobs' times; 0: all take as long"),
        ("load", 0.6, "share of the time that a fast instance, and a core beside the workers', may be busy"),
        ("spare", 1.0, "replicas more of each pool, for one that fails or is being replaced"),
        ("loop-ms", LOOP_MS, "time of a fast request on its instance's thread"),
        ("instance-cpu-ms", INSTANCE_CPU_MS, "CPU time of a fast request at its instance"),
        ("nginx-cpu-ms", NGINX_CPU_MS, "CPU time of a request in nginx"),
    ):
        text += " (%(default)g)"
        parser.add_argument(f"--{name}", type=_number, default=default, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, times in seconds")
    options = parser.parse_args(arguments)
    if not 0 < options.load <= 1:
        parser.error(f"argument --load: {options.load:g} is not a share, above 0 and up to 1")
    if options.spare % 1:
        parser.error(f"argument --spare: {options.spare:g} is not a whole number")
    if options.slow_rps * options.slow_seconds > MOST_WORKERS:
        parser.error(f"that is more than {MOST_WORKERS:,} slow jobs at a time")
    try:
        rows = _rows(options, Config.load())
    except ConfigError as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps({name.replace(" ", "_"): value for name, value, _ in rows}))
        return 0
    cells = [(name, f"{value:,.{0 if value == int(value) else 2}f}", why) for name, value, why in rows]
    first, second = (max(len(row[column]) for row in cells) for column in (0, 1))
    print("\n".join(f"{name:<{first}}  {value:>{second}}  {why}" for name, value, why in cells))
    return 0


def _rows(o: argparse.Namespace, config: Config) -> list[tuple[str, float, str]]:
    """Each figure: its name, its value and its derivation."""
    each, spare = worker_count(config), int(o.spare)
    fast = max(1, math.ceil(o.fast_rps * o.loop_ms / 1000 / o.load))
    jobs = (o.slow_rps, o.slow_seconds, o.slow_scv)
    workers, waits = fewest(o.slow_p95_wait, shortest_queue(*jobs, each), each)
    least, _ = fewest(o.slow_p95_wait, one_queue(*jobs))
    nginx_cores, fast_cores, slow_cores = (
        rate * cpu_ms / 1000 / o.load
        for rate, cpu_ms in (
            (o.fast_rps + o.slow_rps, o.nginx_cpu_ms),
            (o.fast_rps, o.instance_cpu_ms),
            (o.slow_rps, o.instance_cpu_ms),
        )
    )
    fast_replicas = math.ceil(fast / config.fast_processes) + spare
    slow_replicas = math.ceil(workers // each / config.slow_processes) + spare
    busy, target = f"busy {o.load:.0%} of the time", f"95 % wait at most {o.slow_p95_wait:g} s"
    return [
        ("nginx cores", nginx_cores, f"{o.fast_rps + o.slow_rps:g}/s × {o.nginx_cpu_ms:g} ms, {busy}"),
        ("fast instances", fast, f"{o.fast_rps:g}/s × {o.loop_ms:g} ms of a thread, {busy}"),
        ("fast replicas", fast_replicas, f"FAST_PROCESSES={config.fast_processes}, and {spare} spare"),
        ("fast cores", fast_cores, f"{o.fast_rps:g}/s × {o.instance_cpu_ms:g} ms, {busy}; without the spare"),
        ("slow jobs at a time", o.slow_rps * o.slow_seconds, f"{o.slow_rps:g}/s × {o.slow_seconds:g} s"),
        ("slow workers", workers, f"{target}; nginx gives a job to the shortest queue"),
        ("slow workers at best", least, f"{target}; if all jobs stood in one queue"),
        ("slow load", o.slow_rps * o.slow_seconds / workers, "share of the time that a worker is busy"),
        ("slow wait mean seconds", waits.mean_seconds, f"{waits.probability:.1%} of the jobs wait"),
        ("slow wait p95 seconds", waits.p95_seconds, "of all jobs"),
        ("slow instances", workers // each, f"SLOW_WORKERS={each}"),
        ("slow replicas", slow_replicas, f"SLOW_PROCESSES={config.slow_processes}, and {spare} spare"),
        ("slow cores", workers + slow_cores, "one a worker, and as for fast requests; without the spare"),
    ]


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 <= value <= MOST:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {MOST:,}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage."""
        self.exit(2, f"slowpool: {message}\n")
