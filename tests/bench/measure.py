"""The measurements of each system. Every function returns seconds, bytes, counts and ratios."""

import contextlib
import json
import multiprocessing
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from statistics import mean, median

import psutil

from demo.tasks import factorials
from tests.bench import systems
from tests.bench.openloop import Answer, percentile
from tests.bench.systems import CORES, ROOT, Running, System
from tests.bench.variants import VARIANTS

Figures = dict[str, float]

FAST_RATE = 300
"""Fast requests per second."""

HIGH_FAST_RATE = 1000
"""Likewise where isolation is measured a second time: a low rate hides what a busy machine costs."""

REALTIME = ["chrt", "--fifo", "50"]
"""The command that gives an open loop real-time priority: it then stands for a client on another
machine, which has CPUs of its own."""

JOB_SIZE = 2000
"""``n`` of a usual slow request, about 0.05 s."""

OVERLOAD_FACTOR = 10
OVERLOAD_PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Options:
    """How much is measured; times in seconds."""

    warm_up: float = 3
    half: float = 5
    """Each half of a round of isolation, and all that is measured in rounds."""
    long_job_size: int = 6000
    """``n`` of a slow request of about a second."""
    abandoned_job: float = 10
    clients_that_leave: int = 10
    overload: float = 60
    fault: float = 8


QUICK = Options(
    warm_up=1.5, half=1.5, long_job_size=4000, abandoned_job=1, clients_that_leave=4, overload=8, fault=4
)


def warm_up(system: System, running: Running, options: Options) -> None:
    """The first seconds of a new process are slower than all that come after, in every system."""
    with _slow_load(system, running, size=JOB_SIZE, settle=0):
        _open_loop(running, "/fast?id=1", FAST_RATE, options.warm_up)


def isolation(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Latency of fast requests while nothing else goes on, and with slow work on every core."""
    return _isolation(system, running, options, turn, FAST_RATE)


def isolation_at_high_rate(system: System, running: Running, options: Options, turn: int) -> Figures:
    """The same at HIGH_FAST_RATE."""
    return _isolation(system, running, options, turn, HIGH_FAST_RATE)


def _isolation(system: System, running: Running, options: Options, turn: int, rate: int) -> Figures:
    figures: Figures = {}
    for half in ("idle", "saturated") if turn % 2 else ("saturated", "idle"):
        load = _slow_load(system, running, size=options.long_job_size)
        with load if half == "saturated" else contextlib.nullcontext():
            answers = _open_loop(running, "/fast?id=1", rate, options.half)
        for percent in (50, 99, 99.9):
            figures[f"{half}_p{percent:g}_seconds"] = percentile(_latencies(answers), percent)
        figures[f"{half}_failed"] = _failed(answers)
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
    bare = _bare_pool(options.half)
    done = 0
    start = time.perf_counter()

    def count() -> None:
        nonlocal done
        done += 1

    with _slow_load(system, running, size=JOB_SIZE, answered=count, settle=0):
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
    """Fast requests per second at saturation, and what they and the idle system cost."""
    processes = running.all()
    figures: Figures = {
        "start_seconds": running.start_seconds,
        "idle_bytes": sum(process.memory_full_info().uss for process in processes),
        "instance_bytes": mean(process.memory_full_info().uss for process in running.instances()),
        "processes": len(processes),
    }
    for name, url in (("edge", running.url), ("direct", running.direct)):
        before, ours = _busy_seconds(), _children_seconds()
        rate, count = wrk(f"{url}/fast?id=1", options.half)
        busy = _busy_seconds() - before - (_children_seconds() - ours)
        figures |= {f"{name}_per_second": rate, f"{name}_cpu_seconds": busy / count}
    return figures


def waste(system: System, running: Running, options: Options, turn: int) -> Figures:
    """CPU time that is burnt after clients have gone away from their jobs, per job."""
    started = factorials(4000)
    size = min(20000, int(4000 * (options.abandoned_job / started) ** (1 / 2.9)))  # about n^2.9, measured
    host, port = running.url.removeprefix("http://").split(":")
    time.sleep(1)
    background = _rate_of(_busy_seconds, 2)
    request = f"GET {system.slow}?id=1&n={size} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    clients = [socket.create_connection((host, int(port))) for _ in range(options.clients_that_leave)]
    for client in clients:
        client.sendall(request)
    time.sleep(1)
    before, left_at = _busy_seconds(), time.perf_counter()
    for client in clients:
        client.close()
    give_up = left_at + 2 * options.clients_that_leave * options.abandoned_job
    quiet = 0
    while quiet < 2 and time.perf_counter() < give_up:
        quiet = quiet + 1 if _rate_of(_busy_seconds, 0.5) < background + 0.2 else 0
    burnt = _busy_seconds() - before - background * (time.perf_counter() - left_at)
    return {
        "cpu_seconds_per_job": max(0.0, burnt) / options.clients_that_leave,
        "job_seconds": options.abandoned_job,
    }


def overload(system: System, running: Running, options: Options, turn: int) -> Figures:
    """Ten times the slow requests that the cores can do; first without fast requests, then with them."""
    capacity = _bare_pool(min(5.0, options.overload / 4))
    seconds = options.overload / 2
    idle = _open_loop(running, "/fast?id=1", FAST_RATE, options.half)
    path = f"{system.slow}?id=1&n={JOB_SIZE}"
    slow = _open_loop(running, path, OVERLOAD_FACTOR * capacity, seconds, OVERLOAD_PATIENCE_SECONDS)
    in_time = [a for a in slow if a.status == 200 and a.due_seconds + a.latency_seconds <= seconds]
    refused = [a for a in slow if a.status == 503]
    with _background(running, path, OVERLOAD_FACTOR * capacity, seconds, OVERLOAD_PATIENCE_SECONDS):
        time.sleep(1)
        beside = _open_loop(running, "/fast?id=1", FAST_RATE, seconds - 2)
    figures: Figures = {
        "capacity_per_second": capacity,
        "goodput_ratio": len(in_time) / seconds / capacity,
        "refused": len(refused),
        "failed": len([a for a in slow if a.status not in (200, 503)]),
        "sent": len(slow),
        "fast_idle_p99_seconds": percentile(_latencies(idle), 99),
        "fast_p99_seconds": percentile(_latencies(beside), 99),
        "fast_failed": _failed(beside),
    }
    figures["fast_ratio"] = figures["fast_p99_seconds"] / figures["fast_idle_p99_seconds"]
    if refused:
        figures["refusal_p50_seconds"] = percentile(_latencies(refused), 50)
        figures["refusal_p99_seconds"] = percentile(_latencies(refused), 99)
        errors = list(_retry_after_errors(slow))
        if errors:
            figures["retry_after_error_p50_seconds"] = percentile(errors, 50)
            figures["retry_after_error_p90_seconds"] = percentile(map(abs, errors), 90)
    return figures


def faults(system: System, running: Running, options: Options, turn: int) -> Figures:
    """``kill -9`` of a worker, then of an instance, under load: what fails, and for how long."""
    figures: Figures = {}
    for name, victims in (("worker", running.workers), ("instance", running.instances)):
        with _background(running, f"{system.slow}?id=1&n={JOB_SIZE}", 5, options.fault + 1) as slow:
            time.sleep(1)  # the slow work has begun
            if not victims():
                continue  # this system has no such process
            killer = threading.Timer(options.fault / 4, _kill_first, [victims])
            killer.start()
            fast = _open_loop(running, "/fast?id=1", FAST_RATE, options.fault, patience=5)
            killer.join()
        failed_at = [a.due_seconds for a in fast if a.status != 200]
        figures |= {
            f"{name}_fast_failed": _failed(fast),
            f"{name}_fast_sent": len(fast),
            f"{name}_slow_failed": _failed(slow),
            f"{name}_slow_sent": len(slow),
            f"{name}_failing_seconds": max(failed_at, default=0) - min(failed_at, default=0),
        }
    return figures


def _kill_first(victims: Callable[[], list[psutil.Process]]) -> None:
    for victim in victims()[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):  # one for each request ends by itself
            victim.kill()


def growth(options: Options) -> Figures:
    """How this project grows: fast throughput over instances, slow over workers, nginx over upstreams."""
    figures: Figures = {}
    ours = next(system for system in systems.SYSTEMS if system.name == "slowpool")
    for count in (1, 2, 4):
        with systems.slowpool(FAST_PROCESSES=count) as running:
            figures[f"fast_instances_{count}_per_second"], _ = wrk(f"{running.url}/fast?id=1", options.half)
    for count in (1, 2, 4):
        with systems.slowpool(SLOW_PROCESSES=1, SLOW_WORKERS=count, SLOW_QUEUE=16) as running:
            figures[f"slow_workers_{count}_ratio"] = throughput(ours, running, options, 0)["ratio"]
    for count in (2, 20, 100):
        with systems.listeners_behind_nginx(count):
            url = f"http://127.0.0.1:{systems.HTTP_PORT}/fast?id=1"
            figures[f"upstream_servers_{count}_per_second"], _ = wrk(url, options.half)
    return figures


def watching(options: Options) -> Figures:
    """The cost of observing a fast instance: throughput without each part ÷ with all parts.

    Medians over alternating rounds; the instance is asked past nginx.
    """
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(5):
        for name, found in rates.items():
            with systems.fast_instance(name) as url:
                wrk(f"{url}/fast?id=1", options.warm_up)
                found.append(wrk(f"{url}/fast?id=1", options.half)[0])
    whole = rates["whole"]
    return {
        f"{name}_ratio": median(rate / base for rate, base in zip(found, whole, strict=True))
        for name, found in rates.items()
        if name != "whole"
    }


def generators(options: Options) -> Figures:
    """The rate of the generators when nginx answers directly: far above the load of any measurement."""
    with systems.nginx_alone() as url:
        rate, _ = wrk(f"{url}/fast?id=1", options.half)
        running = Running(url, url, 0, list, list, list)
        answers = _open_loop(running, "/fast?id=1", FAST_RATE, options.half)
        most = 4000
        many = _open_loop(running, "/fast?id=1", most, options.half)
    needed = max(a.due_seconds + a.latency_seconds for a in many)
    return {
        "wrk_per_second": rate,
        "open_loop_p50_seconds": percentile(_latencies(answers), 50),
        "open_loop_p99_seconds": percentile(_latencies(answers), 99),
        "open_loop_rate_per_second": most,
        "open_loop_reached_per_second": len(many) / needed,
    }


def wrk(url: str, seconds: float) -> tuple[float, int]:
    """Requests per second, and how many in all, over 32 connections that are kept busy."""
    done = subprocess.run(
        ["wrk", "--threads=1", "--connections=32", f"--duration={max(1, round(seconds))}s", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in done:
        raise RuntimeError(f"not all answers were 200:\n{done}")
    rate, count = re.search(r"Requests/sec: +([\d.]+)", done), re.search(r"(\d+) requests in", done)
    assert rate, done
    assert count, done
    return float(rate[1]), int(count[1])


def _open_loop(
    running: Running, path: str, rate: float, seconds: float, patience: float = 30
) -> list[Answer]:
    with _background(running, path, rate, seconds, patience) as answers:
        pass
    return answers


@cache
def realtime() -> bool:
    """Whether the open loop can have real-time priority here."""
    return shutil.which("chrt") is not None and subprocess.run([*REALTIME, "true"]).returncode == 0


@contextlib.contextmanager
def _background(
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
def _slow_load(
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


def _bare_pool(seconds: float) -> float:
    """Jobs per second of a multiprocessing.Pool with a process for each core, and nothing around it."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        pool.map(factorials, [1] * CORES, chunksize=1)
        count = max(CORES, round(CORES * seconds / factorials(JOB_SIZE)))
        start = time.perf_counter()
        pool.map(factorials, [JOB_SIZE] * count, chunksize=1)
        return count / (time.perf_counter() - start)


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


def _sequential(url: str, count: int) -> float:
    """Median latency of requests one after the other."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        with urllib.request.urlopen(url) as answer:
            answer.read()
        times.append(time.perf_counter() - start)
    return median(times)


def _latencies(answers: list[Answer]) -> list[float]:
    return [answer.latency_seconds for answer in answers]


def _failed(answers: list[Answer]) -> int:
    return sum(answer.status != 200 for answer in answers)


def _busy_seconds() -> float:
    """CPU time of the whole machine, including ended processes and containers."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _rate_of(counter: Callable[[], float], seconds: float) -> float:
    before, start = counter(), time.perf_counter()
    time.sleep(seconds)
    return (counter() - before) / (time.perf_counter() - start)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
