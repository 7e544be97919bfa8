"""The measurements of each system; tests/bench/overload.py has one more."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from statistics import mean, median

import psutil

from demo.tasks import factorials
from tests.bench import cpu
from tests.bench.loads import (
    FAST_RATE,
    HIGH_FAST_RATE,
    JOB_SIZE,
    background,
    bare_pool,
    failed,
    latencies,
    open_loop,
    slow_load,
)
from tests.bench.openloop import percentile
from tests.bench.options import Figures, Options
from tests.bench.running import ROOT, UPSTREAM_HEADERS, Running, own_bytes
from tests.bench.systems import System
from tests.bench.wrk import wrk

ISOLATION_PATIENCE_SECONDS = 10


def warm_up(system: System, running: Running, options: Options) -> None:
    """The first seconds of a new process are slower than all that come after, in every system."""
    with slow_load(system, running, size=JOB_SIZE, settle=0):
        open_loop(running, "/fast?id=1", FAST_RATE, options.warm_up)


def isolation(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Latency of fast requests while nothing else goes on, and with slow work on every core."""
    return _isolation(system, running, options, turn, FAST_RATE)


def isolation_at_high_rate(system: System, running: Running, options: Options, turn: int) -> Figures:
    """The same at HIGH_FAST_RATE."""
    return _isolation(system, running, options, turn, HIGH_FAST_RATE)


def _isolation(system: System, running: Running, options: Options, turn: int, rate: int) -> Figures:
    figures: Figures = {}
    for half in ("idle", "saturated") if turn % 2 else ("saturated", "idle"):
        load = slow_load(system, running, size=options.long_job_size)
        with load if half == "saturated" else contextlib.nullcontext():
            answers = open_loop(running, "/fast?id=1", rate, options.half, ISOLATION_PATIENCE_SECONDS)
        for percent in (50, 99, 99.9):
            figures[f"{half}_p{percent:g}_seconds"] = percentile(latencies(answers), percent)
        figures[f"{half}_failed"] = failed(answers)
    figures["ratio"] = figures["saturated_p99_seconds"] / figures["idle_p99_seconds"]
    return figures


def three_and_twenty(system: System, running: Running, options: Options, turn: int) -> Figures:
    """3 slow requests, then 20 fast ones, all at once: tests/call_multi.py."""
    command = [sys.executable, "tests/call_multi.py", system.slow, f"--url={running.url}"]
    command += [f"--n={options.long_job_size}"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return {
        f"{name}_seconds": float(found[1])
        for name in ("last_fast", "first_slow", "last_slow")
        if (found := re.search(rf"^{name.replace('_', ' ')} result +([\d.]+) s$", printed, re.MULTILINE))
    }


def throughput(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Slow requests per second, against a bare multiprocessing.Pool, and what one costs beyond its work."""
    bare = bare_pool(options.half)
    done = 0
    start = time.perf_counter()

    def count() -> None:
        nonlocal done
        done += 1

    with slow_load(system, running, size=JOB_SIZE, answered=count, settle=0):
        time.sleep(options.half)
        seconds = time.perf_counter() - start
        finished = done
    paths = {"fast": "/fast?id=1", "slow": f"{system.slow}?id=1&n=1"}
    latency = {name: _sequential(f"{running.url}{path}", 50) for name, path in paths.items()}
    return {
        "jobs_per_second": finished / seconds,
        "bare_jobs_per_second": bare,
        "ratio": finished / seconds / bare,
        "dispatch_seconds": latency["slow"] - latency["fast"],
    }


def cost(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Fast requests per second at saturation, and what they and the idle system cost.

    ``direct`` asks one instance without nginx, with the headers that nginx would add. So every system does
    the same work and writes no access line: at the edge that is nginx's, in the same format for all.
    """
    sizes = own_bytes(running.all())
    figures: Figures = {
        "start_seconds": running.start_seconds,
        "idle_bytes": sum(sizes),
        "instance_bytes": mean(own_bytes(running.instances())),
        "processes": len(sizes),
    }
    for name, url, headers in (("edge", running.url, None), ("direct", running.direct, UPSTREAM_HEADERS)):
        before, supervision = cpu.of_the_machine(), cpu.by_process(running.supervision())
        load = wrk(f"{url}/fast?id=1", seconds=options.half, headers=headers)
        busy = cpu.of_the_machine() - before - load.generator_seconds
        figures |= {f"{name}_per_second": load.per_second, f"{name}_cpu_seconds": busy / load.requests}
        if supervision:
            after = cpu.by_process(running.supervision())
            figures[f"{name}_supervision_cpu_seconds"] = cpu.spent(supervision, after) / load.requests
    return figures


def waste(system: System, running: Running, options: Options, turn: int) -> Figures:
    """CPU time that is burnt after clients have gone away from their jobs, per job."""
    started = factorials(4000)
    size = min(20000, int(4000 * (options.abandoned_job / started) ** (1 / 2.9)))  # about n^2.9, measured
    host, port = running.url.removeprefix("http://").split(":")
    time.sleep(1)
    background = cpu.rate_of(cpu.of_the_machine, 2)
    request = f"GET {system.slow}?id=1&n={size} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    clients = [socket.create_connection((host, int(port))) for _ in range(options.clients_that_leave)]
    for client in clients:
        client.sendall(request)
    time.sleep(1)
    before, left_at = cpu.of_the_machine(), time.perf_counter()
    for client in clients:
        client.close()
    give_up = left_at + 2 * options.clients_that_leave * options.abandoned_job
    quiet = 0
    while quiet < 2 and time.perf_counter() < give_up:
        quiet = quiet + 1 if cpu.rate_of(cpu.of_the_machine, 0.5) < background + 0.2 else 0
    burnt = cpu.of_the_machine() - before - background * (time.perf_counter() - left_at)
    return {
        "cpu_seconds_per_job": max(0.0, burnt) / options.clients_that_leave,
        "job_seconds": options.abandoned_job,
    }


def faults(system: System, running: Running, options: Options, turn: int) -> Figures:
    """``kill -9`` of a worker, then of an instance, under load: what fails, and for how long."""
    figures: Figures = {}
    for name, victims in (("worker", running.workers), ("instance", running.instances)):
        with background(running, f"{system.slow}?id=1&n={JOB_SIZE}", 5, options.fault + 1) as slow:
            time.sleep(1)  # the slow work has begun
            if not victims():
                continue  # this system has no such process
            killer = threading.Timer(options.fault / 4, _kill_first, [victims])
            killer.start()
            fast = open_loop(running, "/fast?id=1", FAST_RATE, options.fault, patience=5)
            killer.join()
        failed_at = [a.due_seconds for a in fast if a.status != 200]
        figures |= {
            f"{name}_fast_failed": failed(fast),
            f"{name}_fast_sent": len(fast),
            f"{name}_slow_failed": failed(slow),
            f"{name}_slow_sent": len(slow),
            f"{name}_failing_seconds": max(failed_at, default=0) - min(failed_at, default=0),
        }
    return figures


def _kill_first(victims: Callable[[], list[psutil.Process]]) -> None:
    for victim in victims()[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):  # one for each request ends by itself
            victim.kill()


def _sequential(url: str, count: int) -> float:
    """Median latency of requests one after the other."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        with urllib.request.urlopen(url) as answer:
            answer.read()
        times.append(time.perf_counter() - start)
    return median(times)
