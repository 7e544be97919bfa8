"""The accuracy of ``slowpool capacity``: formulas, simulation and the real system compared.

python -m tests.bench.capacity simulated   some minutes
python -m tests.bench.capacity real        ten minutes of a quiet machine
python -m tests.bench.capacity             only writes deploy/README.md and its plots from what was found

Figures are in deploy/plots/capacity.json.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

from slowpool import capacity
from slowpool.capacity import Wait
from tests.bench import report
from tests.bench.figures import markdown_table
from tests.bench.simulate import Outcome, Pool, at_load, poisson, simulate
from tests.support.basics import ROOT
from tests.support.system import System

Json = dict[str, Any]

DOCUMENT = ROOT / "deploy" / "README.md"
PLOTS = ROOT / "deploy" / "plots"
RESULTS = PLOTS / "capacity.json"
BEGIN, END = "<!-- written by python -m tests.bench.capacity -->\n", "<!-- end of what it has written -->\n"

COMMAND = "--fast-rps 2000 --slow-rps 3 --slow-seconds 6 --slow-p95-wait 2"
WAITS = ("mean_wait", "p95_wait")
LOADS = (0.8, 0.95, 0.98)
SIZES = (20, 100, 1000, 10_000)
REAL_LOADS = (0.5, 0.8, 0.95, 1.5)
REAL_POOLS = (
    Pool(instances=4, workers=5, queue=2, timeout_seconds=3),
    Pool(instances=20, workers=1, queue=2, timeout_seconds=3),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.capacity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("parts", nargs="*", metavar="simulated|real", help="what to find out anew")
    parts = parser.parse_args().parts
    if unknown := set(parts) - {"simulated", "real"}:
        parser.error(f"{' '.join(unknown)} is neither simulated nor real")
    content: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"figures": {}}
    found = itertools.chain(
        simulated() if "simulated" in parts else (), all_real() if "real" in parts else ()
    )
    for name, figures in found:
        print(name, figures, flush=True)
        content["figures"][name] = figures
    if "real" in parts:
        content["machine"] = f"{os.cpu_count()} cores, Linux {platform.release()}"
    PLOTS.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    if "machine" in content:
        write(content)


def simulated() -> Iterator[tuple[str, Json]]:
    """Each case of the simulation; times in those of a mean job."""
    cases = simulated_cases()
    with ProcessPoolExecutor() as executor:
        yield from zip(cases, executor.map(timed, *zip(*cases.values(), strict=True)), strict=True)


def simulated_cases() -> dict[str, tuple[Pool, float, float]]:
    cases: dict[str, tuple[Pool, float, float]] = {}
    for load in LOADS:  # one instance has one queue, for which the formula is exact
        cases[f"one queue/20/{load}"] = Pool(instances=1, workers=20), load, 1
        for each in (1, 4):
            for workers in SIZES:
                cases[f"{each}/{workers}/{load}"] = Pool(instances=workers // each, workers=each), load, 1
    for scv in (0, 4):
        cases[f"scv {scv}/20/0.8"] = Pool(instances=20), 0.8, scv
    cases["overload/10000/1.5"] = Pool(instances=10_000, queue=1, timeout_seconds=10), 1.5, 1
    return cases


def timed(pool: Pool, load: float, scv: float) -> Json:
    """One case; small pools have the longest memory, and so need the most jobs."""
    jobs = 200_000 if pool.instances * pool.workers > 100 else 1_000_000
    started_at = time.perf_counter()
    figures = at_load(pool, load, jobs, scv=scv).figures()
    return {**figures, "simulated_in": time.perf_counter() - started_at}


def expected(workers: int, load: float, each: int, scv: float = 1) -> Wait:
    """The figures of app/slowpool/capacity.py for a pool, in mean job times; ``each`` is 0 for one queue."""
    rate = workers * load
    sizes = capacity.shortest_queue(rate, 1, scv, each) if each else capacity.one_queue(rate, 1, scv)
    return next(wait for size, wait in sizes if size == workers)


def all_real() -> Iterator[tuple[str, Json]]:
    for pool in REAL_POOLS:
        yield from real(pool, REAL_LOADS, seconds=30, mean_seconds=0.5)


def real(
    pool: Pool, loads: tuple[float, ...], *, seconds: float, mean_seconds: float
) -> Iterator[tuple[str, Json]]:
    """The real system and the simulation under the very same jobs, which sleep; times in seconds."""
    settings: dict[str, Any] = {
        "APP": "tests.apps.sleeping:make_app",
        "FAST_PROCESSES": 1,
        "SLOW_PROCESSES": pool.instances,
        "SLOW_WORKERS": pool.workers,
        "SLOW_QUEUE": pool.queue,
        "SLOW_TIMEOUT_SECONDS": pool.timeout_seconds,
        "SLOW_PER_CLIENT": 0,
    }
    with System(**settings) as system:
        for seed, load in enumerate(loads):
            rate = load * pool.instances * pool.workers / mean_seconds
            trace = list(poisson(rate, mean_seconds, int(rate * seconds), seed=seed))
            measured, beside = asyncio.run(ask_all(system.port, trace))
            fresh = replace(pool, fresh_worker_seconds=FRESH_WORKER_SECONDS)
            longer = [(at, each + mean(beside)) for at, each in trace]
            yield (
                f"real/{pool.workers}/{pool.instances}/{load}",
                {
                    **measured.figures(),
                    "load_average": os.getloadavg()[0],
                    "beside": mean(beside),
                    "simulated": simulate(fresh, trace).figures(),
                    "simulated_longer": simulate(fresh, longer).figures(),
                },
            )


FRESH_WORKER_SECONDS: float = json.loads(report.RESULTS.read_text())["figures"]["slow_pool"][
    "kill_to_answer_forked_seconds"
]


async def ask_all(port: int, trace: list[tuple[float, float]]) -> tuple[Outcome, list[float]]:
    """Send each job when it is due, whatever has become of those before.

    Waits are those that the instances tell; and how much longer than its sleep each job took them.
    """
    outcome = Outcome()
    beside: list[float] = []
    start = time.monotonic() + 0.1

    async def ask(at: float, seconds: float) -> None:
        await asyncio.sleep(start + at - time.monotonic())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            target = f"/slow/sleep?seconds={seconds:.6f}"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        status = int(answer[9:12])
        if status == 503:
            outcome.refused += 1
            return
        assert status in (200, 504), answer
        outcome.answered += status == 200
        outcome.late += status == 504
        timing = re.search(rb"queue;dur=([0-9.]+), run;dur=([0-9.]+)", answer)
        assert timing, answer
        outcome.waits.append(float(timing[1]) / 1000)
        if status == 200:
            beside.append(float(timing[2]) / 1000 - seconds)

    async with asyncio.timeout(trace[-1][0] + 60), asyncio.TaskGroup() as group:
        for at, seconds in trace:
            group.create_task(ask(at, seconds))
    return outcome, beside


def write(content: Json) -> None:
    """Write the plots, and their part of the document."""
    plot_waits(content, PLOTS / "waits.svg")
    plot_real(content, PLOTS / "real.svg")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + section(content) + END + rest.partition(END)[2])


def section(content: Json) -> str:
    """What the document shows of these figures."""
    figures = content["figures"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), mock.patch.dict(os.environ, SLOW_WORKERS="1"):
        capacity.main(COMMAND.split())
    exact = [figures[f"one queue/20/{load}"]["mean_wait"] for load in LOADS]
    formula = [expected(20, load, 0).mean_seconds for load in LOADS]
    off = [simulated / right - 1 for simulated, right in zip(exact, formula, strict=True)]
    largest = figures[f"1/10000/{LOADS[0]}"]
    overload = figures["overload/10000/1.5"]
    others = ", ".join(
        f"{figures[f'scv {scv}/20/0.8']['p95_wait']:.2f} and {expected(20, 0.8, 1, scv).p95_seconds:.2f} "
        f"where it is {scv}"
        for scv in (0, 4)
    )
    return f"""
```console
$ SLOW_WORKERS=1 slowpool capacity {COMMAND}
{output.getvalue()}```

The times of a fast request are those of the reference machine of [the benchmark](../tests/bench/REPORT.md), in
containers; measure your own handlers and give `--loop-ms`, `--instance-cpu-ms` and `--nginx-cpu-ms`.

**One queue, or the shortest of many.** A job that nginx has given to an instance stays there, and may wait while
another instance is free. With one worker per instance it then waits for about as long as a job takes, where with one
queue it would start sooner; with four workers it waits a quarter of that. So a large pool does best with several workers
per instance (`SLOW_WORKERS`). p95 of the wait, in times of a mean job (Poisson arrivals, exponential times), by
`slowpool capacity` and by the simulation:

{waits_table(figures)}
![p95 of the wait by load and size](plots/waits.svg)

Where the formula is exact (20 workers with one queue, M/M/c), the simulated mean wait differs from it by
{", ".join(f"{error:+.1%}" for error in off)} at loads {", ".join(map(str, LOADS))}: that is the error of the
simulation, which is random (the state of a busy pool changes slowly). The formula for the shortest queue is on the safe side
by up to a quarter, except for waits near zero. With service times that are not exponential (squared coefficient of variation, `--slow-scv`),
20 instances at load 0.8 have p95, simulated and by formula: {others}.

**Ten thousand instances.** 200,000 simulated jobs took {largest["simulated_in"]:.0f} s. The result depends on the
share of the time that workers are busy, not on its unit: 10,000 workers at 0.95 are 1,583 jobs a second of 6 s each,
or {9.5 / capacity.LOOP_MS:.0f} million requests a second of {capacity.LOOP_MS:g} ms. At one and a half times their capacity, with `SLOW_QUEUE=1` and a
deadline of ten times a mean job, {overload["refused"]:.1%} of the jobs are refused and {overload["late"]:.1%} are too
late. That nginx itself can hold a list of 10,000 instances was not measured; with a hundred its requests/s stay within
the noise of the machine ([the benchmark](../tests/bench/REPORT.md), "Growth").

**The real system** ({content["machine"]}, 20 workers, jobs that sleep for 0.5 s on average, `SLOW_QUEUE=2`,
`SLOW_TIMEOUT_SECONDS=3`) and the simulation under the very same jobs, 30 s for each load. In addition to its
sleep, a job occupies its worker for some time (column "beside"), which grows when the machine is busy, since workers have
the lowest priority; the load average shows that this machine had other work. So two errors are given: that of the
simulation, and that of a simulation whose jobs take that much longer. The second is the part of nginx, the queues and the
deadlines:

{real_table(figures)}
![waits of the real system and of the simulation](plots/real.svg)

`python -m tests.bench.capacity simulated real` writes all of this; the figures are in [capacity.json](plots/capacity.json).
Single cases:
`python -m tests.bench.simulate --instances 10000 --workers 1 --load 0.95`.
"""


def waits_table(figures: Json) -> str:
    rows = [
        [
            f"{workers:,}",
            f"{load:g}",
            f"{expected(workers, load, 0).p95_seconds:.2f}",
            *(
                text
                for each in (1, 4)
                for text in (
                    f"{expected(workers, load, each).p95_seconds:.2f}",
                    f"{figures[f'{each}/{workers}/{load}']['p95_wait']:.2f}",
                )
            ),
        ]
        for workers in SIZES
        for load in LOADS
    ]
    header = ["workers", "load", "one queue", "1 an instance", "simulated", "4 an instance", "simulated"]
    return markdown_table(header, rows)


def real_table(figures: Json) -> str:
    rows = []
    for name, row in figures.items():
        if name.startswith("real/"):
            _, workers, instances, load = name.split("/")
            simulated = [row["simulated"], row["simulated_longer"]]
            rows.append(
                [
                    f"{instances} × {workers}",
                    load,
                    f"{row['beside'] * 1000:.0f} ms",
                    *(" / ".join(f"{each[key] * 1000:.0f}" for each in (row, *simulated)) for key in WAITS),
                    " / ".join(error(row["mean_wait"], each["mean_wait"]) for each in simulated),
                    *(
                        " / ".join(f"{each[key]:.1%}" for each in (row, *simulated))
                        for key in ("refused", "late")
                    ),
                    f"{row['load_average']:.1f}",
                ]
            )
    header = [
        "instances × workers",
        "load",
        "beside",
        "mean wait, ms: real / simulated / longer",
        "p95",
        "errors",
    ]
    return markdown_table([*header, "refused", "late", "load average"], rows)


def error(measured: float, simulated: float) -> str:
    """How much less the simulation has; not for waits below a millisecond."""
    return f"{simulated / measured - 1:+.0%}" if min(measured, simulated) > 0.001 else "–"


def plot_waits(content: Json, file: Path) -> None:
    """p95 of the wait by the size of the pool, by formula (lines) and simulated (points)."""
    figure, axes = report.load_pyplot().subplots(
        1, len(LOADS), figsize=(9, 3), layout="constrained", sharey=True
    )
    for plot, load in zip(axes, LOADS, strict=True):
        for each, color, label in ((1, "tab:orange", "1 worker an instance"), (4, "tab:blue", "4 workers")):
            plot.plot(SIZES, [expected(size, load, each).p95_seconds for size in SIZES], color=color)
            values = [content["figures"][f"{each}/{size}/{load}"]["p95_wait"] for size in SIZES]
            plot.plot(SIZES, values, "o", color=color, label=label)
        plot.plot(SIZES, [expected(size, load, 0).p95_seconds for size in SIZES], "--k", label="one queue")
        plot.set(title=f"load {load}", xscale="log", xlabel="workers")
        plot.grid(alpha=0.3)
    axes[0].set_ylabel("p95 of the wait, mean jobs")
    axes[0].legend(fontsize=8)
    report.save(content, figure, file)


def plot_real(content: Json, file: Path) -> None:
    """Waits of the real system beside those of the simulation under the same jobs."""
    figure, axes = report.load_pyplot().subplots(1, len(REAL_POOLS), figsize=(9, 3), layout="constrained")
    for plot, pool in zip(axes, REAL_POOLS, strict=True):
        rows = [content["figures"][f"real/{pool.workers}/{pool.instances}/{load}"] for load in REAL_LOADS]
        for key, color in (("mean_wait", "tab:blue"), ("p95_wait", "tab:orange")):
            name = key.removesuffix("_wait")
            plot.plot(REAL_LOADS, [row[key] for row in rows], "o", color=color, label=f"{name}, real")
            for style, how in (("-", "simulated"), (":", "simulated_longer")):
                values = [row[how][key] for row in rows]
                plot.plot(REAL_LOADS, values, style, color=color, label=f"{name}, {how.replace('_', ', ')}")
        plot.set(title=f"{pool.instances} instances of {pool.workers}", xlabel="load", ylabel="wait, s")
        plot.grid(alpha=0.3)
    axes[-1].legend(fontsize=8, loc="upper left")
    report.save(content, figure, file)


if __name__ == "__main__":
    main()
