"""Measurements of single fast instances, asked without nginx, with the headers that nginx would add."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from statistics import median

import psutil

from slowpool.config import Config
from tests.bench import cpu, systems
from tests.bench.loads import bare_pool
from tests.bench.options import Figures, Options
from tests.bench.running import CORES, FAST_PORT, UPSTREAM_HEADERS
from tests.bench.variants import SHARE_OF_CORE
from tests.bench.wrk import Load, wrk, wrk_each

Kind = Mapping[str, str]
"""The settings of an instance; ``variant`` is one of tests.bench.variants."""

SERVERS: dict[str, Kind] = {name: {"HTTP_SERVER": name} for name in ("slowpool", "tornado")}

WATCHES: dict[str, Kind] = {
    "whole": {},
    "noise": {},  # the same again: the error of this measurement
    "metrics": {"variant": "without_metrics"},
    "loop_watch": {"variant": "without_loop_watch"},
    "watch": {"variant": "unwatched"},
}
"""Beside the whole instance, those that have not the part of this name."""


def servers(options: Options) -> Figures:
    """One instance with this project's HTTP server, and with Tornado's own; medians.

    Requests/s are those of one at a time, in turns. ``ratio`` is that of the requests for each second of CPU
    time, while both are asked at once and share a core: each slower moment of the machine is one of both.
    """
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    costs: dict[str, list[float]] = {name: [] for name in SERVERS}
    for _ in range(options.generations):
        with _instances(SERVERS, options) as running:
            for _ in range(options.turns):
                for port, found in zip(running, rates.values(), strict=True):
                    found.append(_ask([port], options.turn).per_second)
            with _on_one_core(running.values()):
                for _ in range(options.turns):
                    each = _costs(list(running), running, options.pair)
                    for cost, found in zip(each, costs.values(), strict=True):
                        found.append(cost)
    return {
        **{f"{name}_per_second": median(found) for name, found in rates.items()},
        **{f"{name}_cpu_seconds": median(found) for name, found in costs.items()},
        "ratio": median(
            theirs / ours for ours, theirs in zip(costs["slowpool"], costs["tornado"], strict=True)
        ),
    }


def watching(options: Options) -> Figures:
    """How much of the CPU time of a fast request each of its monitors takes; medians.

    A whole instance and another one are asked at once and share a core.
    """
    budget_seconds = 2 * Config().fast_block_budget_seconds  # the thread of the loop watch goes by it
    half = {SHARE_OF_CORE: "0.5", "FAST_BLOCK_BUDGET_SECONDS": str(budget_seconds)}
    halves = {name: {**kind, **half} for name, kind in WATCHES.items()}
    shares: dict[str, list[float]] = {name: [] for name in WATCHES if name != "whole"}
    for _ in range(options.generations):
        with _instances(halves, options) as running, _on_one_core(running.values()):
            ports = dict(zip(WATCHES, running, strict=True))
            for _ in range(options.turns):
                for name, found in shares.items():
                    whole, other = _costs([ports["whole"], ports[name]], running, options.pair)
                    found.append(1 - other / whole)
    return {f"{name}_share": median(found) for name, found in shares.items()}


def _costs(ports: list[int], running: Mapping[int, psutil.Process], seconds: float) -> list[float]:
    """Ask these instances at once; the CPU seconds of each per request."""
    before = [cpu.of_threads(running[port].pid) for port in ports]
    loads = wrk_each(*map(_url, ports), seconds=seconds, headers=UPSTREAM_HEADERS)
    after = [cpu.of_threads(running[port].pid) for port in ports]
    return [(b - a) / load.requests for a, b, load in zip(before, after, loads, strict=True)]


@contextlib.contextmanager
def _on_one_core(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Keep these processes on one core, and what this one starts on the others."""
    ours = os.sched_getaffinity(0)
    core = min(ours)
    for process in processes:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {core})
    os.sched_setaffinity(0, (ours - {core}) or ours)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def scaling(options: Options) -> Figures:
    """From one instance to two; and from one process that only computes to two, in a bare pool."""
    loads: dict[int, list[Load]] = {1: [], 2: []}
    with _instances({"first": {}, "second": {}}, options) as running:
        for turn in range(options.generations * options.turns):
            first = turn % 2
            loads[1].append(_ask([list(running)[first]], options.turn))
            loads[2].append(_ask(list(running), options.turn))
    bare = [(bare_pool(options.turn, 1), bare_pool(options.turn, 2)) for _ in range(options.generations)]
    return {
        "one_per_second": median(load.per_second for load in loads[1]),
        "two_per_second": median(load.per_second for load in loads[2]),
        "generator_cores": median(load.generator_seconds / load.seconds for load in loads[2]),
        "ratio": median(
            per_core(two, 2) / per_core(one, 1) * 2 for one, two in zip(loads[1], loads[2], strict=True)
        ),
        "bare_ratio": median(two / one for one, two in bare),
    }


def per_core(load: Load, instances: int, cores: int = CORES) -> float:
    """Requests per second for each core that these instances can have, as the generator takes its part."""
    return load.per_second / min(instances, cores - load.generator_seconds / load.seconds)


@contextlib.contextmanager
def _instances(kinds: Mapping[str, Kind], options: Options) -> Iterator[dict[int, psutil.Process]]:
    """An instance of each kind, warmed up, by its port from FAST_PORT on."""
    with contextlib.ExitStack() as stack:
        running: dict[int, psutil.Process] = {}
        for port, kind in enumerate(kinds.values(), FAST_PORT):
            running[port] = stack.enter_context(systems.fast_instance(port, **kind))
            _ask([port], options.warm_up / 2)
        yield running


def _ask(ports: list[int], seconds: float) -> Load:
    return wrk(*map(_url, ports), seconds=seconds, headers=UPSTREAM_HEADERS)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/fast?id=1"
