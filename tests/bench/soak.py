"""``python -m tests.bench.soak --seconds=3600``: random jobs, cancels, deadlines and kills of workers.

Every job must end exactly once and in time, and with what it was bound to end with; processes and open
files must be as many at the end as at the start. Exit status 1 when something is wrong.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
from collections import Counter

import psutil

from slowpool.config import Config
from slowpool.errors import DeadlinePassed, PoolFull, WorkerDied
from tests.apps import zoo
from tests.support.pool import Pool

CLIENTS = 12
HANG_SECONDS = 30.0
"""No job of this soak may take as long as this."""


async def soak(seconds: float, seed: int) -> Counter[str]:
    """Run the soak; how often each outcome came. Raises AssertionError when something is wrong."""
    logging.getLogger("slowpool").setLevel(logging.CRITICAL)
    print(f"soak: {seconds:g} s, seed {seed}", flush=True)
    random.seed(seed)
    pool = Pool(Config(slow_workers=2, slow_queue=8, slow_nice=0))
    await pool.start()
    before = _processes_and_files()
    outcomes: Counter[str] = Counter()
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    end = asyncio.get_running_loop().time() + seconds
    clients = [_client(pool, end, outcomes) for _ in range(CLIENTS)]
    await asyncio.gather(*clients, _killer(end, outcomes))

    assert not errors, f"the event loop saw an error: {errors[0]}"
    assert not [*pool.waiting_jobs, *pool.running_jobs], "a job is left"
    for _ in range(4):
        assert await pool.run(zoo.add, 1, 1) == 2
    async with asyncio.timeout(HANG_SECONDS):
        while (after := _processes_and_files()) != before:
            await asyncio.sleep(0.05)
    print(f"soak: processes and open files {before} -> {after}; {dict(outcomes.most_common())}")
    await pool.close()
    assert not psutil.Process().children(recursive=True), "a process is left"
    return outcomes


async def _client(pool: Pool, end: float, outcomes: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        action = random.choice([_quick, _large, _late, _cancelled, _raising, _dying])
        async with asyncio.timeout(HANG_SECONDS):
            try:
                outcome = await action(pool)
            except PoolFull:
                outcome = "refused"
                await asyncio.sleep(random.uniform(0, 0.05))
            except WorkerDied:
                outcome = "died"
        outcomes[outcome] += 1


async def _quick(pool: Pool) -> str:
    a, b = random.randrange(1000), random.randrange(1000)
    assert await pool.run(zoo.add, a, b) == a + b, "the answer of another job"
    return "answered"


async def _large(pool: Pool) -> str:
    data = random.randbytes(random.randrange(1 << 20))
    assert await pool.run(zoo.echoes, data) == data, "the answer of another job"
    return "answered"


async def _late(pool: Pool) -> str:
    try:
        await pool.run(zoo.sleep, 60.0, timeout=random.uniform(0, 0.1))
    except DeadlinePassed:
        return "late"
    raise AssertionError("the deadline was missed")


async def _cancelled(pool: Pool) -> str:
    job = asyncio.ensure_future(pool.run(zoo.sleep, random.uniform(0, 0.05)))
    await asyncio.sleep(random.uniform(0, 0.05))
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        return "cancelled"
    return "answered"


async def _raising(pool: Pool) -> str:
    text = str(random.random())
    try:
        await pool.run(zoo.raises, text)
    except ValueError as error:
        assert str(error) == text, "the error of another job"
        return "raised"
    raise AssertionError("the exception was lost")


async def _dying(pool: Pool) -> str:
    await pool.run(zoo.exits)
    raise AssertionError("the worker did not die")


async def _killer(end: float, outcomes: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        await asyncio.sleep(random.uniform(0, 0.2))
        workers = psutil.Process().children()
        if workers:
            worker = random.choice(workers)
            os.kill(worker.pid, signal.SIGKILL)
            outcomes["kill -9"] += 1
            while _runs(worker):  # a signal takes its time, and the last one must not hit the final jobs
                await asyncio.sleep(0.001)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes_and_files() -> tuple[int, int]:
    me = psutil.Process()
    return len(me.children(recursive=True)), me.num_fds()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    try:
        asyncio.run(soak(options.seconds, options.seed))
    except (AssertionError, TimeoutError) as error:
        sys.exit(f"soak: failed: {error!r}")
