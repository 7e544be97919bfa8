"""From the figures to REPORT.md, its plots, and the README's table."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.systems import ROOT, SYSTEMS

HERE = ROOT / "tests" / "bench"
RESULTS = HERE / "results.json"
PLOT = HERE / "plots" / "isolation.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmark: written by tests/bench/run -->\n", "<!-- end of benchmark -->\n"
OURS = ("slowpool", "slowpool-compose", "tornado-worker")
"""The systems that have this project's workers."""
ISOLATION = ("isolation", "isolation_at_high_rate")


Content = dict[str, Any]
Format = Callable[[float], str]


def write(content: Content, folder: Path | None = None) -> None:
    """Write the report and its plots into the folder; by default into the project, with the README's part."""
    target = folder or HERE
    (target / "plots").mkdir(parents=True, exist_ok=True)
    (target / "REPORT.md").write_text(report(content))
    if any(key.startswith("isolation/") for key in content["figures"]):
        _plot_isolation(content, target / "plots" / PLOT.name)
    if "growth" in content["figures"]:
        _plot_growth(content, target / "plots" / "growth.svg")
    if folder:
        print(report(content))
    elif BEGIN in (text := README.read_text()):
        before, _, rest = text.partition(BEGIN)
        README.write_text(before + BEGIN + readme_table(content) + END + rest.partition(END)[2])


def readme_table(content: Content) -> str:
    """The one table that tells the story."""
    return _table(
        content,
        "isolation",
        {
            "fast p99, slow work on every core ÷ idle: the worse of 300 and 1,000 requests/s": _worse_ratio,
            "CPU burnt by a 10 s job whose client has gone": _figure(
                "waste", "cpu_seconds_per_job", _seconds
            ),
            "slow answers at 10 × overload, of capacity": _figure("overload", "goodput_ratio", _percent),
            "fast requests failed when one of its processes is killed": _figure(
                "faults", "instance_fast_failed", _count, of="instance_fast_sent"
            ),
        },
    )


def digest(content: Content) -> str:
    """A digest of the figures; each plot contains it, to show which figures it is of."""
    return hashlib.sha256(json.dumps(content["figures"], sort_keys=True).encode()).hexdigest()


def report(content: Content) -> str:
    """All of REPORT.md."""
    parts = [
        "# The benchmark\n",
        "Written by `tests/bench/run` from [results.json](results.json); the commands of each system are in "
        "[systems.py](systems.py), the measurements in [measure.py](measure.py).\n",
        _heads(content),
        _goals(content),
    ]
    for measurement, (title, text, columns) in SECTIONS.items():
        if any(key.startswith(f"{measurement}/") for key in content["figures"]):
            parts += [f"## {title}\n", f"{text}\n", _table(content, measurement, columns)]
            if measurement == "isolation":
                parts.append("![fast p99 under slow load, by system](plots/isolation.svg)\n")
    parts += [_growth(content), _watching(content), _once(content), (HERE / "NOTES.md").read_text()]
    return "\n".join(part for part in parts if part)


def _heads(content: Content) -> str:
    """The commit, time and machine of each measurement."""
    measured: dict[str, list[str]] = {}
    for name, head in content["heads"].items():
        machine = head["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in head["versions"].items())
        text = (
            f"{machine['date']}, commit {head['commit']}; {machine['cores']} cores ({machine['cpu'] or 'unknown'}), "
            f"{machine['bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}; {versions}; the open loop at {head['generator']}."
        )
        measured.setdefault(text, []).append(name)
    return "".join(f"- {', '.join(names)}: {text}\n" for text, names in measured.items())


def _plot_isolation(content: Content, file: Path) -> None:
    """Fast p99 idle and under slow load, one line a system, on a logarithmic scale."""
    pyplot = load_pyplot()
    rows = [
        (system, _median(content, "isolation", system.name, f"{half}_p99_seconds"))
        for system in reversed(SYSTEMS)
        for half in ("idle", "saturated")
    ]
    shown = [(system, value) for system, value in rows if value is not None]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(shown) / 2 + 1.2), layout="constrained")
    idle, saturated = shown[::2], shown[1::2]
    for row, ((system, before), (_, after)) in enumerate(zip(idle, saturated, strict=True)):
        color = "tab:blue" if system.name in OURS else "tab:gray"
        axes.plot([before * 1000, after * 1000], [row, row], color=color, linewidth=2, zorder=1)
    for points, face, label in (
        (idle, "white", "idle"),
        (saturated, "black", "slow work on every core"),
    ):
        axes.scatter(
            [value * 1000 for _, value in points],
            range(len(points)),
            facecolor=face,
            edgecolor="black",
            s=40,
            zorder=2,
            label=label,
        )
    axes.set_yticks(range(len(idle)), [system.title.replace("**", "") for system, _ in idle])
    axes.set_xscale("log")
    axes.set_xlabel("p99 of fast requests, ms (logarithmic); less is better")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    save(content, figure, file)


def _plot_growth(content: Content, file: Path) -> None:
    figures = content["figures"]["growth"]
    figure, axes = load_pyplot().subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    for plot, (prefix, suffix, title, unit) in zip(axes, GROWTH, strict=True):
        counts = [int(name.split("_")[2]) for name in figures if name.startswith(prefix)]
        plot.plot(counts, [figures[f"{prefix}{count}{suffix}"] for count in counts], "o-")
        plot.set_title(title, fontsize=10)
        plot.set_ylabel(unit)
        plot.set_ylim(bottom=0)
        plot.grid(alpha=0.3)
    save(content, figure, file)


def load_pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "slowpool"  # the same figures, the same file
    from matplotlib import pyplot

    return pyplot


def save(content: Content, figure: Any, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None, "Description": digest(content)}, facecolor="white")


def _goals(content: Content) -> str:
    """Each goal beside what was measured."""

    def value(measurement: str, name: str, system: str = "slowpool") -> float | None:
        return _median(content, measurement, system, name)

    ratios = {s.name: value("isolation", "ratio", s.name) for s in SYSTEMS}
    high_rate = {s.name: value("isolation_at_high_rate", "ratio", s.name) for s in SYSTEMS}
    lowest = min((ratio for name, ratio in ratios.items() if ratio and name not in OURS), default=None)
    pool = content["figures"].get("slow_pool", {})
    goals = [
        ("fast p99, slow work on every core ÷ idle, local", ratios["slowpool"], _times, "≤", 1.10),
        ("the same in compose", ratios["slowpool-compose"], _times, "≤", 1.25),
        ("the same at 1,000 fast requests/s, local", high_rate["slowpool"], _times, "≤", 1.5),
        ("the same at 1,000 fast requests/s, in compose", high_rate["slowpool-compose"], _times, "≤", 2),
        (
            "at 300 fast requests/s, the best of those without this project's workers (to be higher)",
            lowest,
            _times,
            "≥",
            ratios["slowpool"],
        ),
        ("CPU burnt per abandoned job", value("waste", "cpu_seconds_per_job"), _seconds, "≤", 0.1),
        ("goodput at 10 × overload ÷ capacity", value("overload", "goodput_ratio"), _percent, "≥", 0.95),
        ("refusals, p99", value("overload", "refusal_p99_seconds"), _ms, "≤", 0.05),
        ("fast p99 under overload ÷ idle", value("overload", "fast_ratio"), _times, "≤", 1.10),
        ("slow throughput ÷ bare multiprocessing.Pool", value("throughput", "ratio"), _percent, "≥", 0.95),
        ("the same without HTTP", pool.get("throughput_ratio"), _percent, "≥", 0.98),
        ("dispatch of an empty task", pool.get("dispatch_seconds"), _ms, "≤", 0.0003),
        ("client gone to dead worker", pool.get("client_gone_to_dead_worker_seconds"), _ms, "≤", 0.05),
        (
            "cancel to the answer of a fresh worker",
            pool.get("cancel_to_answer_forked_seconds"),
            _ms,
            "≤",
            0.008,
        ),
        (
            "`kill -9` of an idle worker to the same",
            pool.get("kill_to_answer_forked_seconds"),
            _ms,
            "≤",
            0.008,
        ),
        (
            "cancel to the same, with numpy and a model of 400 MB",
            pool.get("cancel_to_answer_loaded_forked_seconds"),
            _ms,
            "≤",
            0.015,
        ),
        (
            "`kill -9` to the same, with numpy and the model",
            pool.get("kill_to_answer_loaded_forked_seconds"),
            _ms,
            "≤",
            0.015,
        ),
        (
            "memory of a slow instance with 8 workers and the model (PSS)",
            pool.get("memory_of_8_workers_bytes"),
            _mb,
            "≤",
            496e6,
        ),
        ("503 of a full pool, at the instance", pool.get("refusal_at_the_instance_seconds"), _ms, "≤", 0.005),
    ]
    rows = [
        [name, form(measured), f"{sign} {form(goal)}", _met(measured, sign, goal)]
        for name, measured, form, sign, goal in goals
        if measured is not None and goal is not None
    ]
    return "## Goals of this project\n\n" + markdown_table(["", "measured", "goal", ""], rows) if rows else ""


def _met(measured: float, sign: str, goal: float) -> str:
    return "met" if (measured <= goal if sign == "≤" else measured >= goal) else "**not met**"


def _growth(content: Content) -> str:
    figures = content["figures"].get("growth")
    if not figures:
        return ""
    rows = []
    for prefix, suffix, title, unit in GROWTH:
        counts = [int(name.split("_")[2]) for name in figures if name.startswith(prefix)]
        values = [figures[f"{prefix}{count}{suffix}"] for count in counts]
        rows.append([title, unit, ", ".join(f"{c}: {v:,.4g}" for c, v in zip(counts, values, strict=True))])
    return (
        "## Growth of this project\n\nFast throughput by `wrk` with 32 connections, which takes its part of the "
        "cores; slow throughput of one slow instance.\n\n"
        + markdown_table(["over", "", ""], rows)
        + "\n![growth](plots/growth.svg)\n"
    )


def _watching(content: Content) -> str:
    figures = content["figures"].get("watching")
    if not figures:
        return ""
    rows = [[name.removesuffix("_ratio").replace("_", " "), _percent(v)] for name, v in figures.items()]
    return (
        "## What it costs to be watched\n\nFast requests per second of one instance, past nginx, without one of its "
        "monitors, compared with the unchanged instance; medians of five alternating rounds.\n\n"
        + markdown_table(["", "of the throughput"], rows)
    )


def _once(content: Content) -> str:
    figures = content["figures"].get("generators")
    if not figures:
        return ""
    return (
        "## The generators are not the limit\n\n"
        f"Against an nginx that answers without an upstream: wrk {figures['wrk_per_second']:,.0f} requests/s; the open loop "
        f"at 300 requests/s p50 {_ms(figures['open_loop_p50_seconds'])}, p99 {_ms(figures['open_loop_p99_seconds'])}; "
        f"asked for {figures['open_loop_rate_per_second']:,.0f} requests/s it reached "
        f"{figures['open_loop_reached_per_second']:,.0f}.\n"
    )


def _median(content: Content, measurement: str, system: str, name: str) -> float | None:
    values = _values(content, measurement, system, name)
    return median(values) if values else None


def _values(content: Content, measurement: str, system: str, name: str) -> list[float]:
    prefix = f"{measurement}/{system}/"
    return [
        figures[name]
        for key, figures in content["figures"].items()
        if key.startswith(prefix) and name in figures
    ]


Cell = Callable[[Content, str], str]
NOT_MEASURED = "–"


def _figure(measurement: str, name: str, form: Format, *, of: str = "", spread: bool = False) -> Cell:
    """A median, with the number that it is part of, or with the least and the most of its rounds."""

    def cell(content: Content, system: str) -> str:
        values = _values(content, measurement, system, name)
        if not values:
            return NOT_MEASURED
        text = form(median(values))
        if of:
            text += f" of {median(_values(content, measurement, system, of)):,.0f}"
        if spread and len(values) > 1:
            text += f" ({form(min(values))} to {form(max(values))})"
        return text

    return cell


def _worse_ratio(content: Content, system: str) -> str:
    """The higher median of isolation at the two rates."""
    ratios = (_median(content, name, system, "ratio") for name in ISOLATION)
    return _times(max(ratio for ratio in ratios if ratio is not None))


def _table(content: Content, measurement: str, columns: dict[str, Cell]) -> str:
    keys = content["figures"]
    shown = [s for s in SYSTEMS if any(key.startswith(f"{measurement}/{s.name}/") for key in keys)]
    cells = {name: [cell(content, system.name) for system in shown] for name, cell in columns.items()}
    measured = {name: column for name, column in cells.items() if set(column) != {NOT_MEASURED}}
    rows = [list(row) for row in zip([system.title for system in shown], *measured.values(), strict=True)]
    return markdown_table(["", *measured], rows)


def markdown_table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.2f} ms" if seconds < 0.01 else f"{seconds * 1000:,.0f} ms"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:,.0f} ×"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.0f} %"


def _count(count: float) -> str:
    return f"{count:,.0f}"


def _mb(count: float) -> str:
    return f"{count / 10**6:.0f} MB"


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB"


GROWTH = [
    ("fast_instances_", "_per_second", "fast instances", "requests/s"),
    ("slow_workers_", "_ratio", "workers of a slow instance", "of a bare pool"),
    ("upstream_servers_", "_per_second", "upstream servers in nginx", "requests/s"),
]


def _isolation_columns(measurement: str) -> dict[str, Cell]:
    columns = {
        f"{half} {name}": _figure(measurement, f"{half}_{name}_seconds", _ms)
        for half in ("idle", "saturated")
        for name in ("p50", "p99", "p99.9")
    }
    columns["p99 ratio"] = _figure(measurement, "ratio", _times, spread=True)
    columns["failed"] = _figure(measurement, "saturated_failed", _count)
    return columns


SECTIONS: dict[str, tuple[str, str, dict[str, Cell]]] = {
    "isolation": (
        "Isolation",
        "Fast requests at 300/s in an open loop, each latency measured from the time at which the request was due; idle, and with "
        "four slow requests of about a second always open. Medians over alternating rounds; each system is started anew for each round and warmed up for 3 s.",
        _isolation_columns("isolation"),
    ),
    "isolation_at_high_rate": (
        "Isolation at a high rate",
        "The same with 1,000 fast requests/s.",
        _isolation_columns("isolation_at_high_rate"),
    ),
    "three_and_twenty": (
        "3 slow and 20 fast requests, all at once",
        "`tests/call_multi.py`; slow requests of about a second.",
        {
            "last fast answer": _figure("three_and_twenty", "last_fast_seconds", _ms),
            "first slow answer": _figure("three_and_twenty", "first_slow_seconds", _seconds),
            "last slow answer": _figure("three_and_twenty", "last_slow_seconds", _seconds),
        },
    ),
    "throughput": (
        "Slow throughput",
        "Jobs of about 0.05 s from two clients for each core, against a bare `multiprocessing.Pool` with a process "
        "for each core just before; and what a slow request costs beyond a fast one when its job is empty.",
        {
            "jobs/s": _figure("throughput", "jobs_per_second", lambda rate: f"{rate:.1f}"),
            "÷ bare pool": _figure("throughput", "ratio", _percent, spread=True),
            "dispatch": _figure("throughput", "dispatch_seconds", _ms),
        },
    ),
    "waste": (
        "Waste",
        "Ten clients ask for jobs of 10 s and go away after 1 s: the CPU time that the machine burns from then on.",
        {"CPU time per abandoned job": _figure("waste", "cpu_seconds_per_job", _seconds)},
    ),
    "overload": (
        "Overload",
        "Ten times the slow requests that a bare pool could do, in an open loop: 30 s without other load, for goodput and "
        "refusals, then 30 s beside fast requests at 300/s. A request without an answer 10 s after the end has failed. "
        "The error of `Retry-After` is against the time that the jobs ahead took; a whole number of seconds cannot "
        "do better than 0 to 1.",
        {
            "goodput": _figure("overload", "goodput_ratio", _percent),
            "refused": _figure("overload", "refused", _count, of="sent"),
            "failed": _figure("overload", "failed", _count, of="sent"),
            "refusal p50": _figure("overload", "refusal_p50_seconds", _ms),
            "p99": _figure("overload", "refusal_p99_seconds", _ms),
            "Retry-After error, median": _figure("overload", "retry_after_error_p50_seconds", _seconds),
            "fast p99": _figure("overload", "fast_p99_seconds", _ms),
            "÷ idle": _figure("overload", "fast_ratio", _times),
        },
    ),
    "faults": (
        "Faults",
        "`kill -9` of one process that does slow work, then of one that answers fast requests, under 300 fast and "
        "5 slow requests a second.",
        {
            f"{victim} killed: {column}": _figure("faults", f"{victim}_{name}", form, of=of)
            for victim in ("worker", "instance")
            for column, name, form, of in (
                ("fast failed", "fast_failed", _count, f"{victim}_fast_sent"),
                ("slow failed", "slow_failed", _count, f"{victim}_slow_sent"),
                ("failing for", "failing_seconds", _seconds, ""),
            )
        },
    ),
    "cost": (
        "Cost",
        "Fast requests at saturation by `wrk` with 32 connections on the same cores, through nginx where there is "
        "one and at one instance; CPU time of the whole machine less that of wrk; unshared memory of the idle system.",
        {
            "at the edge": _figure("cost", "edge_per_second", lambda rate: f"{rate:,.0f}/s"),
            "CPU each": _figure("cost", "edge_cpu_seconds", _ms),
            "direct": _figure("cost", "direct_per_second", lambda rate: f"{rate:,.0f}/s"),
            "direct, CPU each": _figure("cost", "direct_cpu_seconds", _ms),
            "processes": _figure("cost", "processes", _count),
            "memory, idle": _figure("cost", "idle_bytes", _mib),
            "per instance": _figure("cost", "instance_bytes", _mib),
            "start to first answer": _figure("cost", "start_seconds", _seconds),
        },
    ),
}
