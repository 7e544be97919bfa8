"""The loads of the measurements: an open loop of its own, slow requests that are always open, a bare pool."""

import contextlib
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache

from demo.tasks import factorials
from tests.bench.openloop import Answer
from tests.bench.running import CORES, ROOT, Running
from tests.bench.systems import System

FAST_RATE = 300
"""Fast requests per second."""

HIGH_FAST_RATE = 1000
"""Likewise where isolation is measured a second time: a low rate hides what a busy machine costs."""

REALTIME = ["chrt", "--fifo", "50"]
"""The command that gives an open loop real-time priority: it then stands for a client on another
machine, which has CPUs of its own."""

JOB_SIZE = 2000
"""``n`` of a usual slow request, about 0.05 s."""


def open_loop(running: Running, path: str, rate: float, seconds: float, patience: float = 30) -> list[Answer]:
    with background(running, path, rate, seconds, patience) as answers:
        pass
    return answers


@cache
def realtime() -> bool:
    """Whether the open loop can have real-time priority here."""
    return shutil.which("chrt") is not None and subprocess.run([*REALTIME, "true"]).returncode == 0


@contextlib.contextmanager
def background(
    running: Running, path: str, rate: float, seconds: float, patience: float = 30
) -> Iterator[list[Answer]]:
    """Load in a session of its own, at real-time priority where that is allowed. The answers are there
    when the block has ended.
    """
    script, url = str(ROOT / "tests" / "bench" / "openloop.py"), f"{running.url}{path}"
    command = [*(REALTIME if realtime() else []), sys.executable, script]
    command += [url, f"--rate={rate}", f"--seconds={seconds}", f"--patience={patience}"]
    answers: list[Answer] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        yield answers
        printed, _ = process.communicate()
    answers += [Answer(*row) for row in json.loads(printed)]


@contextlib.contextmanager
def slow_load(
    system: System,
    running: Running,
    size: int,
    answered: Callable[[], None] = lambda: None,
    settle: float = 1,
) -> Iterator[None]:
    """Keep two slow requests for each core open, and have them running before the block begins."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            url = f"{running.url}{system.slow}?id=1&n={size}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                answer.read()
                answered()

    threads = [threading.Thread(target=ask) for _ in range(2 * CORES)]
    for thread in threads:
        thread.start()
    time.sleep(settle)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def bare_pool(seconds: float, processes: int = CORES) -> float:
    """Jobs per second of a multiprocessing.Pool, by default with one for each core; nothing around it."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(factorials, [1] * processes, chunksize=1)
        count = max(processes, round(processes * seconds / factorials(JOB_SIZE)))
        start = time.perf_counter()
        pool.map(factorials, [JOB_SIZE] * count, chunksize=1)
        return count / (time.perf_counter() - start)


def latencies(answers: list[Answer]) -> list[float]:
    return [answer.latency_seconds for answer in answers]


def failed(answers: list[Answer]) -> int:
    return sum(answer.status != 200 for answer in answers)
