"""``python -m tests.bench.soak --seconds=3600``: random jobs, streams, cancels, deadlines, forks and kill -9.

Killed at random are workers, templates, and instances with all that runs in them. Every job must end exactly
once and in time, and with what it was bound to end with. At the end there must be as many processes and open
files as at the start, and no more memory than after the first quarter. Exit status 1 when something is wrong.
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil

from slowpool.config import Config
from slowpool.errors import DeadlinePassed, PoolFull, ResultTooLarge, WorkerDied
from slowpool.linux.processes import adopt_orphans, children
from slowpool.workers.job import Job
from tests.apps import forks, zoo
from tests.support.pool import Pool
from tests.support.process import runs

CLIENTS = 12
HANG_SECONDS = 60.0
"""No job of this soak may take as long as this, while the machine is busy with other things."""

MAX_RESULT_BYTES = 4 << 20
MAX_GROWTH_BYTES = 64 << 20
"""Of the memory of the instance: a leak of 1 kB a job is more, after an hour."""

SETTINGS: dict[str, Any] = {
    "app": "tests.apps.zoo:add",
    "slow_workers": 2,
    "slow_queue": 8,
    "slow_nice": 0,
    "slow_max_result_bytes": MAX_RESULT_BYTES,
}


async def soak(seconds: float, seed: int) -> Counter[str]:
    """Run the soak; how often each outcome came. Raises AssertionError when something is wrong."""
    logging.getLogger("slowpool").setLevel(logging.CRITICAL)
    print(f"soak: {seconds:g} s, seed {seed}", flush=True)
    random.seed(seed)
    adopt_orphans()  # as an instance does
    pool = Pool(Config(**SETTINGS))
    await pool.start()
    before = _processes_and_files()
    outcomes: Counter[str] = Counter()
    errors: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    command = [sys.executable, "-m", "tests.bench.soak", f"--seconds={seconds}", f"--seed={seed}"]
    instances = await asyncio.create_subprocess_exec(*command, "--instances", stdout=subprocess.PIPE)
    bytes_then = 0
    for part in (0.25, 0.75):
        end = loop.time() + part * seconds
        await asyncio.gather(*(_client(pool, end, outcomes) for _ in range(CLIENTS)), _killer(end, outcomes))
        bytes_then = bytes_then or _memory()
    assert not errors, f"the event loop saw an error: {errors[0]}"
    async with asyncio.timeout(HANG_SECONDS):
        while pool.waiting_jobs or pool.running_jobs:  # a client that leaves does not wait for the kill
            await asyncio.sleep(0.05)
        printed, _ = await instances.communicate()
    assert instances.returncode == 0, "an instance that was killed left processes"
    outcomes["kill -9 of an instance"] = int(printed)
    for _ in range(4):
        assert await pool.run(zoo.add, 1, 1) == 2
    async with asyncio.timeout(HANG_SECONDS):
        while (after := _processes_and_files()) != before:
            await asyncio.sleep(0.05)
    growth = _memory() - bytes_then
    print(f"soak: processes and open files {before} -> {after}; memory {growth / 2**20:+.1f} MiB", flush=True)
    print(f"soak: {dict(outcomes.most_common())}", flush=True)
    assert growth < MAX_GROWTH_BYTES, f"{growth} bytes more than after a quarter of the time"
    await pool.close()
    assert not children(), "a process is left"
    return outcomes


def kill_instances(seconds: float) -> int:
    """Start instances, one after the other, and kill each with kill -9; how many.

    Raises TimeoutError when a process of one is left: each becomes a child of this process.
    """
    adopt_orphans()
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        command = [
            sys.executable,
            "-m",
            "tests.bench.soak",
            f"--seed={random.randrange(1 << 32)}",
            "--victim",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as instance:
            assert instance.stdout
            instance.stdout.readline()  # its pool has started, or starts
            time.sleep(random.uniform(0, 2))
            assert instance.poll() is None, f"an instance ended by itself with {instance.returncode}"
            instance.kill()
        count += 1
        gone = time.monotonic() + HANG_SECONDS
        while children():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            if time.monotonic() > gone:
                raise TimeoutError(f"left: {[psutil.Process(pid).cmdline() for pid in children()]}")
            time.sleep(0.01)
    return count


async def be_killed() -> None:
    """Run random jobs for ever, as an instance that is killed while it starts or works."""
    logging.getLogger("slowpool").setLevel(logging.CRITICAL)
    adopt_orphans()
    pool = Pool(Config(**SETTINGS))
    starting = asyncio.ensure_future(pool.start())
    while random.random() < 0.8 and not starting.done():
        await asyncio.sleep(0.05)
    print("starts", flush=True)
    await starting
    await asyncio.gather(*(_client(pool, float("inf"), Counter()) for _ in range(CLIENTS)))


async def _client(pool: Pool, end: float, outcomes: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        action = random.choice(ACTIONS)
        try:
            async with asyncio.timeout(HANG_SECONDS):
                outcome = await action(pool)
        except PoolFull:
            outcome = "refused"
            await asyncio.sleep(random.uniform(0, 0.05))
        except WorkerDied:
            outcome = "died"
        except TimeoutError:
            jobs = [
                (job.task, worker.pid, round(job.run_seconds)) for job, worker in pool.running_jobs.items()
            ]
            raise AssertionError(f"{action.__name__} did not end; there run {jobs}") from None
        outcomes[outcome] += 1


async def _quick(pool: Pool) -> str:
    a, b = random.randrange(1000), random.randrange(1000)
    assert await pool.run(zoo.add, a, b) == a + b, "the answer of another job"
    return "answered"


async def _large(pool: Pool) -> str:
    data = random.randbytes(random.randrange(MAX_RESULT_BYTES * 5 // 4))
    try:
        assert await pool.run(zoo.echoes, data) == data, "the answer of another job"
    except ResultTooLarge:
        assert len(data) > MAX_RESULT_BYTES - 100, "refused as too large"
        return "too large"
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


async def _forking(pool: Pool) -> str:
    by = random.choice([*forks.FORKS])
    if random.random() < 0.5:
        answer = await pool.run(random.choice([forks.forks, forks.forks_and_forks_again]), by)
        assert answer == "the parent's", "the answer of a child"
    else:
        assert await pool.run(forks.leaves_a_child, by, random.uniform(0, 0.05)), "the answer of a child"
    return "forked"


async def _leaving_a_child(pool: Pool) -> str:
    pid = await pool.run(zoo.leaves_a_child)
    async with asyncio.timeout(HANG_SECONDS):
        while b"1234.5" in _command_line(pid):
            await asyncio.sleep(0.01)
    return "left a child"


async def _streaming(pool: Pool) -> str:
    """All of a stream, the end of one that raises, or one that is closed early; perhaps read slowly."""
    first, count = random.randrange(1000), random.randrange(60)
    size = random.choice([10, 100_000])
    job: Job[Any] = pool.submit(zoo.counts, first, count, size, random.random() < 0.3, streamed=True)
    last = random.randrange(60) if random.random() < 0.3 else count
    pause = random.choice([0, 0, 0.002])
    found = 0
    try:
        async with contextlib.aclosing(job.items()) as items:
            async for number, data in items:
                assert (number, len(data)) == (first + found, size), "an item of another stream"
                found += 1
                if found == last and last < count:
                    return "closed early"
                if pause:
                    await asyncio.sleep(pause)
    except ValueError as error:
        assert str(error) == str(first), "the error of another stream"
        assert found == count, f"{found} of {count} items before the error"
        return "raised in a stream"
    assert found == count, f"{found} of {count} items"
    return "streamed"


ACTIONS = [
    _quick, _large, _late, _cancelled, _raising, _dying, _forking, _leaving_a_child, _streaming, _streaming,
]  # fmt: skip


async def _killer(end: float, outcomes: Counter[str]) -> None:
    """Kill workers, and sometimes the template, also one that still starts."""
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        await asyncio.sleep(random.uniform(0, 0.2))
        wanted = "slow-template" if random.random() < 0.1 else "slow-worker"
        found = [process for process in _own_processes() if _name(process) == wanted]
        if found:
            victim = random.choice(found)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
            outcomes[f"kill -9 of a {wanted.removeprefix('slow-')}"] += 1
            while runs(victim):  # a signal takes its time, and the last one must not hit the final jobs
                await asyncio.sleep(0.001)


def _own_processes() -> Iterator[psutil.Process]:
    """The templates and workers of this instance, orphaned workers included."""
    for child in psutil.Process().children():
        yield child
        if _name(child) == "slow-template":
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from child.children()


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _processes_and_files() -> tuple[int, int]:
    me = psutil.Process()
    return len(me.children(recursive=True)), me.num_fds()


def _memory() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free, after large results, is not used
    return int(psutil.Process().memory_full_info().uss)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--instances", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--victim", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.instances:
            random.seed(options.seed)
            print(kill_instances(options.seconds))
        elif options.victim:
            random.seed(options.seed)
            asyncio.run(be_killed())
        else:
            asyncio.run(soak(options.seconds, options.seed))
    except (AssertionError, TimeoutError) as error:
        sys.exit(f"soak: failed: {error!r}")
