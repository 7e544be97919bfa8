"""The slow pool as nginx feeds it, simulated: up to 10,000 instances in seconds.

nginx gives each request to the instance with the fewest open ones (least_conn), where it runs, waits in a
bounded queue until its deadline, or is refused: slowpool/workers/pool.py in 60 lines; no process is started.

python -m tests.bench.simulate --instances 10000 --workers 1 --load 0.95
"""

import argparse
import json
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import mean

import simpy

from tests.bench.openloop import percentile

Trace = Iterable[tuple[float, float]]
"""Jobs: the instant at which each comes, and how long it runs, in seconds."""

NO_LIMIT = 10**9


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The simulated system, with settings as in app/slowpool/config.py."""

    instances: int
    workers: int = 1
    queue: int = NO_LIMIT
    timeout_seconds: float = float(NO_LIMIT)
    fresh_worker_seconds: float = 0.0
    """Until the worker of a job that was killed is replaced."""


@dataclass
class Outcome:
    """The outcome of the jobs. ``waits`` has those that were not refused, in the order of their starts."""

    waits: list[float] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    late: int = 0

    def figures(self) -> dict[str, float]:
        """Waits in seconds, and how many of all jobs were refused, or late."""
        count = self.answered + self.refused + self.late
        return {
            "jobs": count,
            "mean_wait": mean(self.waits),
            "p95_wait": percentile(self.waits, 95),
            "waited": sum(wait > 0.001 for wait in self.waits) / len(self.waits),
            "refused": self.refused / count,
            "late": self.late / count,
        }


class Shortest:
    """The instances by their open requests; taking from the shortest is as quick for 10,000 as for two.

    Among equals it is the turn of the one that has been so for longest: nginx's round robin without its
    memory of earlier turns.
    """

    def __init__(self, instances: int) -> None:
        self._open = [0] * instances
        self._having: list[OrderedDict[int, None]] = [OrderedDict.fromkeys(range(instances))]
        self._lowest = 0

    def take(self) -> tuple[int, int]:
        """The instance whose turn it is, and how many requests it had open; one more now."""
        while not self._having[self._lowest]:
            self._lowest += 1
        before = self._lowest
        instance, _ = self._having[before].popitem(last=False)
        self._put(instance, before + 1)
        return instance, before

    def release(self, instance: int) -> None:
        """One of its requests has ended."""
        count = self._open[instance]
        del self._having[count][instance]
        self._put(instance, count - 1)
        self._lowest = min(self._lowest, count - 1)

    def _put(self, instance: int, count: int) -> None:
        self._open[instance] = count
        if count == len(self._having):
            self._having.append(OrderedDict())
        self._having[count][instance] = None


def simulate(pool: Pool, trace: Trace, *, warm_up: int = 0, turns: Shortest | None = None) -> Outcome:
    """Run the jobs; the first ``warm_up`` of them do not count. ``turns``: another way to choose."""
    env = simpy.Environment()
    shortest = turns or Shortest(pool.instances)
    free = [pool.workers] * pool.instances
    waiting: list[deque[Job]] = [deque() for _ in range(pool.instances)]
    outcome = Outcome()

    def arrive() -> Generator[simpy.Event, object, None]:
        for number, (at, seconds) in enumerate(trace):
            yield env.timeout(at - env.now)
            instance, _ = shortest.take()
            job = Job(env.now, seconds, number >= warm_up)
            if free[instance]:
                free[instance] -= 1
                start(instance, job)
            elif len(waiting[instance]) < pool.queue:
                waiting[instance].append(job)
                if pool.timeout_seconds < NO_LIMIT:
                    after(pool.timeout_seconds, partial(expire, instance, job))
            else:
                shortest.release(instance)
                outcome.refused += job.counts

    def start(instance: int, job: Job) -> None:
        wait = env.now - job.at
        left = pool.timeout_seconds - wait
        killed = job.seconds > left
        job.started = True
        if job.counts:
            outcome.waits.append(wait)
            outcome.late += killed
            outcome.answered += not killed
        after(min(job.seconds, left), partial(end, instance, killed))

    def end(instance: int, killed: bool, _: object) -> None:
        shortest.release(instance)
        if killed:
            after(pool.fresh_worker_seconds, partial(next_job, instance))
        else:
            next_job(instance)

    def next_job(instance: int, _: object = None) -> None:
        if waiting[instance]:
            start(instance, waiting[instance].popleft())
        else:
            free[instance] += 1

    def expire(instance: int, job: Job, _: object) -> None:
        if not job.started:
            waiting[instance].remove(job)
            shortest.release(instance)
            if job.counts:
                outcome.waits.append(env.now - job.at)
                outcome.late += 1

    def after(seconds: float, callback: Callable[[object], None]) -> None:
        callbacks = env.timeout(seconds).callbacks
        assert callbacks is not None  # as they are once it has passed
        callbacks.append(callback)

    env.process(arrive())
    env.run()
    return outcome


@dataclass(eq=False, slots=True)
class Job:
    at: float
    seconds: float
    counts: bool
    started: bool = False


def poisson(
    per_second: float, mean_seconds: float, count: int, *, scv: float = 1, seed: int = 1
) -> Iterator[tuple[float, float]]:
    """Jobs that come at random and whose times have a gamma distribution with this squared coefficient of
    variation; 1 is the exponential one."""
    source = random.Random(seed)
    at = 0.0
    for _ in range(count):
        at += source.expovariate(per_second)
        yield at, source.gammavariate(1 / scv, mean_seconds * scv) if scv else mean_seconds


def at_load(pool: Pool, load: float, jobs: int, *, scv: float = 1, seed: int = 1) -> Outcome:
    """Jobs of one second on the mean, so many that the workers are busy for this share of the time."""
    trace = poisson(load * pool.instances * pool.workers, 1, jobs, scv=scv, seed=seed)
    return simulate(pool, trace, warm_up=jobs // 5)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="of each instance")
    parser.add_argument("--queue", type=int, default=NO_LIMIT, help="jobs that may wait at an instance")
    parser.add_argument("--timeout", type=float, default=NO_LIMIT, help="in times of a mean job")
    parser.add_argument("--load", type=float, default=0.8, help="offered, as a share of all workers")
    parser.add_argument(
        "--scv", type=float, default=1, help="squared coefficient of variation of their times"
    )
    parser.add_argument("--jobs", type=int, default=200_000)
    options = parser.parse_args()
    pool = Pool(
        instances=options.instances,
        workers=options.workers,
        queue=options.queue,
        timeout_seconds=options.timeout,
    )
    started_at = time.perf_counter()
    figures = at_load(pool, options.load, options.jobs, scv=options.scv).figures()
    print(json.dumps({**figures, "simulated_in": round(time.perf_counter() - started_at, 1)}, indent=1))


if __name__ == "__main__":
    main()
