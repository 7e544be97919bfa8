"""Measurements of single fast instances, asked without nginx, with the headers that nginx would add."""

import contextlib
from collections.abc import Iterator, Mapping
from statistics import median
from typing import NamedTuple

import psutil

from tests.bench import cpu, systems
from tests.bench.loads import bare_pool
from tests.bench.options import Figures, Options
from tests.bench.running import CORES, FAST_PORT, UPSTREAM_HEADERS
from tests.bench.wrk import Load, wrk

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


class Generation(NamedTuple):
    """What an instance did in all its turns, from its start to its end."""

    per_second: float
    cpu_seconds: float  # of its process, per request


def servers(options: Options) -> Figures:
    """One instance with this project's HTTP server, and with Tornado's own; medians of generations."""
    found = list(_generations(SERVERS, options))
    figures: Figures = {}
    for name in SERVERS:
        figures[f"{name}_per_second"] = median(each[name].per_second for each in found)
        figures[f"{name}_cpu_seconds"] = median(each[name].cpu_seconds for each in found)
    figures["ratio"] = median(each["slowpool"].per_second / each["tornado"].per_second for each in found)
    return figures


def watching(options: Options) -> Figures:
    """How much of the CPU time of a fast request each of its monitors takes; medians of generations."""
    found = list(_generations(WATCHES, options))
    return {
        f"{name}_share": median(1 - each[name].cpu_seconds / each["whole"].cpu_seconds for each in found)
        for name in WATCHES
        if name != "whole"
    }


def scaling(options: Options) -> Figures:
    """From one instance to two; and from one process that only computes to two, in a bare pool."""
    loads: dict[int, list[Load]] = {1: [], 2: []}
    with _instances({"first": {}, "second": {}}, options) as running:
        for turn in range(options.generations * options.turns):
            first = turn % 2
            loads[1].append(_ask([list(running)[first]], options.turn))
            loads[2].append(_ask(list(running), options.turn))
    bare = [(bare_pool(options.turn, 1), bare_pool(options.turn, 2)) for _ in range(options.turns)]
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


def _generations(kinds: Mapping[str, Kind], options: Options) -> Iterator[dict[str, Generation]]:
    """Start all instances, ask them in turns, end them; anew, as memory is laid out by chance."""
    for _ in range(options.generations):
        with _instances(kinds, options) as running:
            loads: dict[str, list[Load]] = {name: [] for name in kinds}
            seconds = dict.fromkeys(kinds, 0.0)
            for turn in range(options.turns):
                for name in list(kinds)[:: -1 if turn % 2 else 1]:
                    port = list(kinds).index(name) + FAST_PORT
                    before = cpu.by_process([running[port]])
                    loads[name].append(_ask([port], options.turn))
                    seconds[name] += cpu.spent(before, cpu.by_process([running[port]]))
            yield {
                name: Generation(
                    median(load.per_second for load in loads[name]),
                    seconds[name] / sum(load.requests for load in loads[name]),
                )
                for name in kinds
            }


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
    urls = [f"http://127.0.0.1:{port}/fast?id=1" for port in ports]
    return wrk(*urls, seconds=seconds, headers=UPSTREAM_HEADERS)
