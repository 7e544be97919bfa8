"""The figures of the slow pool, measured without nginx."""

import asyncio
import contextlib
import logging
import math
import multiprocessing
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from demo.tasks import factorials
from slowpool.config import Config
from slowpool.config import Pool as InstancePool
from tests.bench import systems, tasks
from tests.bench.running import CORES, ROOT, SLOW_PORT
from tests.support.pool import Pool
from tests.support.process import Instance

ROUNDS = 5
"""Medians are of as many rounds, in which the systems take turns."""

SETTLE_SECONDS = 0.02
"""Between one replacement and the next, so that all processes are idle."""

JOBS = 40

Start = tuple[str, str, bool]

STARTS: list[Start] = [
    ("forked", "tests.bench.tasks:items", True),
    ("loaded_forked", "tests.bench.loaded:make_app", True),
    ("afresh", "tests.bench.tasks:items", False),
    ("loaded_afresh", "tests.bench.loaded:make_app", False),
]
"""Name, application, and whether workers are forked."""


def figures() -> dict[str, float]:
    """Medians, in seconds, bytes and ratios."""
    logging.disable()
    result = _replacement() | _throughput() | asyncio.run(_dispatch()) | _memory()
    result |= asyncio.run(_streams()) | _bare_pipe()
    for unit in ("items", "bytes"):
        result[f"stream_{unit}_ratio"] = (
            result[f"stream_{unit}_per_second"] / result[f"pipe_{unit}_per_second"]
        )
    with systems.slowpool(SLOW_QUEUE=0, APP="tests.bench.routes:make_app") as running:
        result["refusal_at_the_instance_seconds"] = _refusal()
        result["client_gone_to_dead_worker_seconds"] = _disconnect(running.url)
    return result


def _replacement() -> dict[str, float]:
    """From a cancel, and from a kill -9 of an idle worker, to the answer of the worker that replaces it."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, app, fork in STARTS:
            for way, seconds in asyncio.run(_replace(app, fork)).items():
                found.setdefault(f"{way}_to_answer_{name}_seconds", []).extend(seconds)
    return {name: median(seconds) for name, seconds in found.items()}


async def _replace(app: str, fork: bool) -> dict[str, list[float]]:
    pool = Pool(Config(slow_workers=1, app=app, slow_fork=fork))
    await pool.start()
    cancelled, killed = [], []
    for _ in range(20 if fork else 3):
        job = asyncio.ensure_future(pool.run(time.sleep, 60))
        while not pool.running_jobs:
            await asyncio.sleep(0)
        await asyncio.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        job.cancel()
        await pool.run(math.sqrt, 4.0)
        cancelled.append(time.perf_counter() - start)
        pid = await pool.run(os.getpid)
        await asyncio.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await pool.run(math.sqrt, 4.0)
        killed.append(time.perf_counter() - start)
    await pool.close()
    return {"cancel": cancelled, "kill": killed}


def _throughput() -> dict[str, float]:
    """Jobs per second, against a bare multiprocessing.Pool with as many processes."""
    size = 2000
    ratios = []
    for _ in range(ROUNDS):
        with multiprocessing.get_context("spawn").Pool(CORES) as bare:
            bare.map(factorials, [size] * CORES, chunksize=1)
            start = time.perf_counter()
            bare.map(factorials, [size] * JOBS, chunksize=1)
            bare_seconds = time.perf_counter() - start
        ratios.append(bare_seconds / asyncio.run(_run_jobs(size)))
    return {"throughput_ratio": median(ratios)}


async def _run_jobs(size: int) -> float:
    """How long JOBS jobs take."""
    pool = Pool(Config(slow_workers=CORES, slow_queue=JOBS))
    await pool.start()
    await asyncio.gather(*(pool.run(factorials, size) for _ in range(CORES)))
    start = time.perf_counter()
    await asyncio.gather(*(pool.run(factorials, size) for _ in range(JOBS)))
    seconds = time.perf_counter() - start
    await pool.close()
    return seconds


async def _dispatch() -> dict[str, float]:
    """Of an empty task, and of the same one in a bare multiprocessing.Pool; and one call of progress()."""
    pool = Pool(Config(slow_workers=1))
    await pool.start()
    ours, bare = [], []
    with multiprocessing.get_context("spawn").Pool(1) as other:
        for turn in range(3000):
            start = time.perf_counter()
            if turn // 100 % 2:  # in blocks: after a pause the first ones are slower
                await pool.run(math.sqrt, 4.0)
                ours.append(time.perf_counter() - start)
            else:
                other.apply(math.sqrt, [4.0])
                bare.append(time.perf_counter() - start)
    progress = [await pool.run(tasks.progress_seconds, 100_000) for _ in range(ROUNDS)]
    await pool.close()
    return {
        "dispatch_seconds": median(ours),
        "dispatch_ratio": median(ours) / median(bare),
        "progress_seconds": median(progress),
    }


def _memory() -> dict[str, float]:
    """PSS of a slow instance with 8 workers and a model of 400 MB, which all of them have read."""
    settings: dict[str, Any] = {"APP": "tests.bench.loaded:make_app", "SLOW_WORKERS": 8}
    with Instance(InstancePool.SLOW, path=ROOT, expected="", **settings) as instance:
        for _ in range(16):  # the workers take turns
            assert instance.get("/total").status == 200
        process = psutil.Process(instance.pid)
        processes = [process, *process.children(recursive=True)]
        found = sum(process.memory_full_info().pss for process in processes)
    return {"memory_of_8_workers_bytes": found, "model_bytes": tasks.MODEL_BYTES}


STREAMS = {"items": (20_000, 10), "bytes": (400, 1 << 20)}
"""Unit of the rate -> number and size of the items."""


async def _streams() -> dict[str, float]:
    pool = Pool(Config(slow_workers=1))
    await pool.start()
    rates = {}
    for unit, (count, size) in STREAMS.items():
        found = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            async for _ in pool.submit(tasks.items, count, size, streamed=True).items():
                pass
            found.append(count * (size if unit == "bytes" else 1) / (time.perf_counter() - start))
        rates[f"stream_{unit}_per_second"] = median(found)
    await pool.close()
    return rates


def _bare_pipe() -> dict[str, float]:
    """The same items through a multiprocessing.Pipe, which its reader waits for."""
    context = multiprocessing.get_context("spawn")
    rates = {}
    for unit, (count, size) in STREAMS.items():
        found = []
        for _ in range(ROUNDS):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=tasks.send_items, args=(writer, count, size))
            process.start()
            reader.recv()
            start = time.perf_counter()
            for _ in range(count):
                reader.recv()
            found.append(count * (size if unit == "bytes" else 1) / (time.perf_counter() - start))
            process.join()
        rates[f"pipe_{unit}_per_second"] = median(found)
    return rates


def _refusal() -> float:
    """Fill the one place of a slow instance; how long its refusals take."""
    url = f"http://127.0.0.1:{SLOW_PORT}/slow_threaded?id=1&n="

    def fill() -> None:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{url}8000") as answer:
            answer.read()

    filler = threading.Thread(target=fill)
    filler.start()
    time.sleep(0.2)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        try:
            urllib.request.urlopen(f"{url}1").close()
        except urllib.error.HTTPError as error:
            assert error.code == 503
            times.append(time.perf_counter() - start)
    filler.join()
    return median(times)


def _disconnect(url: str) -> float:
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(20):
            path = Path(folder, str(number))
            curl = subprocess.Popen(["curl", "-s", f"{url}/slow/spin?file={path}"])
            while not path.exists():
                time.sleep(0.005)
            worker = os.pidfd_open(int(path.read_text()))
            start = time.perf_counter()
            curl.kill()
            select.select([worker], [], [], 10)
            times.append(time.perf_counter() - start)
            os.close(worker)
            curl.wait()
            time.sleep(0.2)
    return median(times)
