"""``python -m tests.bench.slow_pool``: what the slow pool costs, and whether it leaves the fast one alone.

Prints a table of medians beside their goals. ``--rounds`` is how often idle and saturated alternate;
``--compose`` measures the isolation on a Docker engine too, the generator in a container of its own.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import math
import multiprocessing
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from app.config import Config
from app.demo.tasks import factorials
from app.errors import DeadlinePassed
from app.workers import WorkerPool
from tests.bench.openloop import percentile

ROOT = Path(__file__).resolve().parent.parent.parent
RATE = 300
SIZE = 2000
PORTS = {"HTTP_PORT": "9780", "ADMIN_PORT": "9781", "FAST_PORT": "9701", "SLOW_PORT": "9741"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10, help="of each half of a round")
    parser.add_argument("--compose", action="store_true")
    options = parser.parse_args()
    logging.disable()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {os.uname().release}\n")
    print(f"{'':50} {'median':>10}  goal")
    asyncio.run(_pool_alone())
    with _local(SLOW_QUEUE="0") as url:
        _row("503 of a full pool, at the instance", _refusals(), "ms", "≤ 5")
        _row("client gone (through nginx) to dead worker", _disconnects(url), "ms", "≤ 50")
    with _local() as url:
        _isolation("fast p99 saturated ÷ idle, local", url, options, _generate_here, "≤ 1.10")
    if options.compose:
        with _compose() as url:
            _isolation("fast p99 saturated ÷ idle, compose", url, options, _generate_in_container, "≤ 1.25")


async def _pool_alone() -> None:
    pool = WorkerPool(Config(slow_workers=1))
    await pool.start()
    times = []
    for _ in range(3000):
        start = time.perf_counter()
        await pool.run(math.sqrt, 4.0)
        times.append(time.perf_counter() - start)
    _row("dispatch of an empty task", times, "ms", "≤ 0.3")
    times = []
    for _ in range(30):
        with contextlib.suppress(DeadlinePassed):
            await pool.run(time.sleep, 60, timeout=0.01)
        start = time.perf_counter()
        await pool.run(math.sqrt, 4.0)
        times.append(time.perf_counter() - start)
    _row("kill to the answer of a fresh worker", times, "ms", "≤ 100")
    await pool.close()

    workers = os.cpu_count() or 1
    jobs = [SIZE] * (20 * workers)
    pool = WorkerPool(Config(slow_workers=workers, slow_queue=len(jobs)))
    await pool.start()
    ratios = []
    for _ in range(7):
        start = time.perf_counter()
        await asyncio.gather(*(pool.run(factorials, size) for size in jobs))
        ours = time.perf_counter() - start
        with multiprocessing.get_context("spawn").Pool(workers) as bare:
            bare.map(factorials, [1] * workers, chunksize=1)
            start = time.perf_counter()
            bare.map(factorials, jobs, chunksize=1)
            ratios.append((time.perf_counter() - start) / ours)
    await pool.close()
    _row("slow throughput ÷ multiprocessing.Pool's", ratios, "", "≥ 0.95")


def _refusals() -> list[float]:
    """Fill the one place of each slow instance; how long the first one's refusals take."""
    port = PORTS["SLOW_PORT"]
    with _slow_load(f"http://127.0.0.1:{port}/slow_threaded?id=1&n=8000", 2):
        times: list[float] = []
        deadline = time.monotonic() + 30
        while len(times) < 200 and time.monotonic() < deadline:
            start = time.perf_counter()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/slow_threaded?id=1&n=1"):
                    pass
            except urllib.error.HTTPError as error:
                if error.code == 503:
                    times.append(time.perf_counter() - start)
    return times


def _disconnects(url: str) -> list[float]:
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
    return times


def _isolation(
    name: str,
    url: str,
    options: argparse.Namespace,
    generate: Callable[[str, float], list[float]],
    goal: str,
) -> None:
    generate(url, 2)
    ratios, idle_ms, saturated_ms = [], [], []
    for number in range(options.rounds):
        idle = saturated = 0.0
        for half in ("idle", "saturated") if number % 2 else ("saturated", "idle"):
            if half == "idle":
                idle = percentile(generate(url, options.seconds), 99)
            else:
                with _slow_load(f"{url}/slow_threaded?id=1&n=6000", 2 * (os.cpu_count() or 1)):
                    saturated = percentile(generate(url, options.seconds), 99)
        ratios.append(saturated / idle)
        idle_ms.append(idle)
        saturated_ms.append(saturated)
    _row("fast p99, idle", idle_ms, "ms", "")
    _row("fast p99, saturated", saturated_ms, "ms", "")
    _row(name, ratios, "", goal)


def _generate_here(url: str, seconds: float) -> list[float]:
    """In a session of its own: the scheduler then sees it as it would see another machine's."""
    command = [sys.executable, "-m", "tests.bench.openloop", f"{url}/fast?id=1"]
    return _latencies([*command, f"--rate={RATE}", f"--seconds={seconds}"])


def _generate_in_container(url: str, seconds: float) -> list[float]:
    script = ROOT / "tests" / "bench" / "openloop.py"
    command = [
        "docker",
        "run",
        "--rm",
        "--network=slowpool-bench_pools",
        f"--volume={script}:/openloop.py:ro",
    ]
    command += ["slowpool-app", "python", "/openloop.py", "http://nginx:8080/fast?id=1"]
    return _latencies([*command, f"--rate={RATE}", f"--seconds={seconds}"])


def _latencies(command: list[str]) -> list[float]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, start_new_session=True)
    latencies: list[float] = json.loads(done.stdout)
    return latencies


@contextlib.contextmanager
def _slow_load(url: str, clients: int) -> Iterator[None]:
    """Keep ``clients`` slow requests open, and have them running before the block begins."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                answer.read()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def _local(**settings: str) -> Iterator[str]:
    environ = {**os.environ, **PORTS, "ROUTES": "tests.bench.routes", **settings}
    command = [sys.executable, "deploy/local"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, start_new_session=True
    ) as system:
        assert system.stdout
        for line in system.stdout:
            if b"is up" in line:
                break
        drain = threading.Thread(target=system.stdout.read)
        drain.start()
        try:
            yield f"http://127.0.0.1:{PORTS['HTTP_PORT']}"
        finally:
            system.terminate()
            system.wait()
            drain.join()


@contextlib.contextmanager
def _compose() -> Iterator[str]:
    environ = {**os.environ, **PORTS, "COMPOSE_PROJECT_NAME": "slowpool-bench"}

    def compose(*arguments: str) -> None:
        subprocess.run(
            ["docker", "compose", *arguments], cwd=ROOT, env=environ, check=True, capture_output=True
        )

    compose("up", "--build", "--detach", "--wait")
    try:
        yield f"http://127.0.0.1:{PORTS['HTTP_PORT']}"
    finally:
        compose("down")


def _row(name: str, values: list[float], unit: str, goal: str) -> None:
    """Print a median; ``values`` are seconds where the unit is ms, ratios where it is empty."""
    print(f"{name:50} {median(values) * (1000 if unit else 1):10.2f}{unit:3} {goal}", flush=True)


if __name__ == "__main__":
    main()
