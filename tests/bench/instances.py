"""Measurements of single fast instances, asked without nginx, with the headers that nginx would add."""

import contextlib
import itertools
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


class Turn(NamedTuple):
    """What an instance did in one turn."""

    per_second: float
    cpu_seconds: float  # of its process, per request


def servers(options: Options) -> Figures:
    """One instance with this project's HTTP server, and with Tornado's own; medians of turns."""
    turns = list(_turns(SERVERS, options))
    figures: Figures = {}
    for name in SERVERS:
        figures[f"{name}_per_second"] = median(turn[name].per_second for turn in turns)
        figures[f"{name}_cpu_seconds"] = median(turn[name].cpu_seconds for turn in turns)
    figures["ratio"] = median(turn["slowpool"].per_second / turn["tornado"].per_second for turn in turns)
    return figures


def watching(options: Options) -> Figures:
    """How much of the CPU time of a fast request each of its monitors takes; medians of turns."""
    turns = list(_turns(WATCHES, options))
    return {
        f"{name}_share": median(1 - turn[name].cpu_seconds / turn["whole"].cpu_seconds for turn in turns)
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


def _turns(kinds: Mapping[str, Kind], options: Options) -> Iterator[dict[str, Turn]]:
    """Ask an instance of each kind in turn, and again; then start all anew: chance lays out their memory."""
    ports = dict(zip(kinds, itertools.count(FAST_PORT)))
    for _ in range(options.generations):
        with _instances(kinds, options) as running:
            for number in range(options.turns):
                turn = {}
                for name in list(kinds)[:: -1 if number % 2 else 1]:
                    process = running[ports[name]]
                    before = cpu.of_threads(process.pid)
                    load = _ask([ports[name]], options.turn)
                    seconds = cpu.of_threads(process.pid) - before
                    turn[name] = Turn(load.per_second, seconds / load.requests)
                yield turn


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
