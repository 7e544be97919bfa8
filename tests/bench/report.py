"""From the figures to REPORT.md, its plots, and the README's table."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.bench.figures import (
    NOT_MEASURED,
    Cell,
    Content,
    count,
    figure,
    markdown_table,
    median_of,
    ms,
    percent,
    seconds,
    tenths,
    times,
)
from tests.bench.goals import goals
from tests.bench.running import ROOT
from tests.bench.sections import SECTIONS
from tests.bench.systems import OURS, SYSTEMS

HERE = ROOT / "tests" / "bench"
RESULTS = HERE / "results.json"
PLOT = HERE / "plots" / "isolation.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmark: written by tests/bench/run -->\n", "<!-- end of benchmark -->\n"
ISOLATION = ("isolation", "isolation_at_high_rate")


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
            "CPU burnt by a 10 s job whose client has gone": figure("waste", "cpu_seconds_per_job", seconds),
            "slow answers at 10 × overload, of capacity": figure("overload", "goodput_ratio", percent),
            "fast requests failed when one of its processes is killed": figure(
                "faults", "instance_fast_failed", count, of="instance_fast_sent"
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
        goals(content),
    ]
    for measurement, (title, text, columns) in SECTIONS.items():
        if any(key.startswith(f"{measurement}/") for key in content["figures"]):
            parts += [
                f"## {title}\n",
                f"{text.format_map(content['options'])}\n",
                _table(content, measurement, columns),
            ]
            if measurement == "isolation":
                parts.append("![fast p99 under slow load, by system](plots/isolation.svg)\n")
    parts += [_instances(content), _growth(content), _once(content), (HERE / "NOTES.md").read_text()]
    return "\n".join(part for part in parts if part)


def _heads(content: Content) -> str:
    """The commit, time and machine of each measurement."""
    measured: dict[str, list[str]] = {}
    for name, head in content["heads"].items():
        machine = head["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in head["versions"].items())
        text = (
            f"{machine['date']}, commit {head['commit']}; {machine['cores']} cores ({machine['cpu'] or 'unknown'}), "
            f"{machine['bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}; {versions}; the open loop at {head['generator']}"
        )
        text += f"; load average before: {machine['load']:.1f}." if "load" in machine else "."
        measured.setdefault(text, []).append(name)
    return "".join(f"- {', '.join(names)}: {text}\n" for text, names in measured.items())


def _plot_isolation(content: Content, file: Path) -> None:
    """Fast p99 idle and under slow load, one line a system, on a logarithmic scale."""
    pyplot = load_pyplot()
    rows = [
        (system, median_of(content, "isolation", system.name, f"{half}_p99_seconds"))
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


def _instances(content: Content) -> str:
    """One fast instance and two, without nginx."""
    figures = content["figures"]
    parts = []
    if found := figures.get("servers"):
        rows = [
            [title, f"{found[f'{name}_per_second']:,.0f}/s", ms(found[f"{name}_cpu_seconds"])]
            for name, title in (("slowpool", "this project's HTTP server"), ("tornado", "Tornado's own"))
        ]
        parts += [
            "The same instance with `HTTP_SERVER=slowpool` and `HTTP_SERVER=tornado`: asked in turns for the requests/s, "
            "then both at once on one core for the CPU time of each process. For each second of it this project's server "
            f"answers {times(found['ratio'])} the requests.\n",
            markdown_table(["", "requests/s", "CPU each, in its process"], rows),
        ]
    if found := figures.get("scaling"):
        parts.append(
            f"From one instance ({found['one_per_second']:,.0f}/s) to two ({found['two_per_second']:,.0f}/s, beside a "
            f"generator that takes {found['generator_cores']:.2f} cores): {times(found['ratio'])} for each core that the "
            "generator leaves to the instances. From one process that only computes to two, without HTTP: "
            f"{times(found['bare_ratio'])}; that is what this machine's cores can do.\n"
        )
    if found := figures.get("watching"):
        names = {
            "watch_share": "loop watch, metrics and history",
            "loop_watch_share": "the loop watch, its thread included",
            "metrics_share": "metrics and history",
            "noise_share": "nothing: two equal instances, the error of this measurement",
        }
        rows = [[title, tenths(found[name])] for name, title in names.items()]
        parts += [
            "What it costs to be watched: the share of the CPU time of a fast request that is saved by an instance "
            "without\n",
            markdown_table(["", "of the CPU time"], rows),
        ]
    head = (
        "## One fast instance\n\nAsked by `wrk` without nginx, with the headers that nginx would add, so that the "
        "instance writes no access line. Medians; instances are started anew several times.\n"
    )
    return "\n".join([head, *parts]) if parts else ""


def _once(content: Content) -> str:
    figures = content["figures"].get("generators")
    if not figures:
        return ""
    return (
        "## The generators are not the limit\n\n"
        f"Against an nginx that answers without an upstream: wrk {figures['wrk_per_second']:,.0f} requests/s; the open loop "
        f"at 300 requests/s p50 {ms(figures['open_loop_p50_seconds'])}, p99 {ms(figures['open_loop_p99_seconds'])}; "
        f"asked for {figures['open_loop_rate_per_second']:,.0f} requests/s it reached "
        f"{figures['open_loop_reached_per_second']:,.0f}.\n"
    )


def _worse_ratio(content: Content, system: str) -> str:
    """The higher median of isolation at the two rates."""
    ratios = (median_of(content, name, system, "ratio") for name in ISOLATION)
    return times(max(ratio for ratio in ratios if ratio is not None))


def _table(content: Content, measurement: str, columns: dict[str, Cell]) -> str:
    keys = content["figures"]
    shown = [s for s in SYSTEMS if any(key.startswith(f"{measurement}/{s.name}/") for key in keys)]
    cells = {name: [cell(content, system.name) for system in shown] for name, cell in columns.items()}
    measured = {name: column for name, column in cells.items() if set(column) != {NOT_MEASURED}}
    rows = [list(row) for row in zip([system.title for system in shown], *measured.values(), strict=True)]
    return markdown_table(["", *measured], rows)


GROWTH = [
    ("fast_instances_", "_per_second", "fast instances", "requests/s"),
    ("slow_workers_", "_ratio", "workers of a slow instance", "of a bare pool"),
    ("upstream_servers_", "_per_second", "upstream servers in nginx", "requests/s"),
]
