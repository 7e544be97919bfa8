"""The status page's figures as rows of text: for a pipe as they are, for a terminal see tables.py."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from slowpool.observe.untrusted import printable

Json = dict[str, Any]

MOST_EVENTS = 10

Columns = list[tuple[str, Callable[[Json], object]]]
"""The title of a column, and what a row has in it."""

INSTANCES: Columns = [
    ("instance", lambda row: row["name"]),
    ("address", lambda row: row.get("address", f"{row.get('answering')} of {row.get('instances')} answer")),
    ("state", lambda row: row.get("state", "")),
    ("up", lambda row: duration(row.get("uptime_seconds"))),
    ("active", lambda row: row.get("active", "")),
    (
        "running",
        lambda row: _of(len(row["running"]) if "port" in row else row["running"], row.get("workers")),
    ),
    ("waiting", lambda row: row.get("waiting", "")),
    ("requests", lambda row: row["requests"]),
    ("refused", lambda row: row["refused"]),
    ("failed", lambda row: row["errors"]),
    ("p50", lambda row: duration(row["p50_seconds"])),
    ("p99", lambda row: duration(row["p99_seconds"])),
    ("lag", lambda row: duration(row["lag_seconds"])),
    ("memory", lambda row: _size(row.get("resident_bytes"))),
]

JOBS: Columns = [
    ("job", lambda row: row["job"]),
    ("state", lambda row: row["state"]),
    ("age", lambda row: duration(row["age_seconds"])),
    ("left", lambda row: duration(row.get("deadline_seconds"))),
    ("done", lambda row: _percent(row.get("progress"))),
    ("cpu", lambda row: duration(row.get("cpu_seconds"))),
    ("memory", lambda row: _size(row.get("resident_bytes"))),
    ("task", lambda row: row["task"]),
    ("route", lambda row: row["route"]),
    ("instance", lambda row: f"{row['instance']} at {row['address']}"),
    ("worker", lambda row: row.get("worker", "")),
    ("request", lambda row: row["request_id"]),
    ("message", lambda row: row.get("message", "")),
]


def status(content: Json) -> str:
    """All instances, running jobs, the last events and hints."""
    running = [_running(instance, job) for instance in content["instances"] for job in _jobs(instance)]
    newest_last = reversed(events(content, MOST_EVENTS))
    notes = [*running, *accepted(content), *newest_last, *(f"! {hint}" for hint in content["hints"])]
    return "\n".join([*_table(INSTANCES, instances(content)), *map(printable, notes)])


def jobs(content: Json) -> str:
    """The jobs that run or wait, accepted ones by state, and the last that have failed."""
    rows = job_rows(content)
    table = _table(JOBS, rows) if rows else ["no job runs or waits"]
    return "\n".join([*table, *map(printable, [*accepted(content), *failures(content)])])


def instances(content: Json) -> list[Json]:
    """A row for each pool, and for each instance."""
    rows = [{"name": f"{name} pool", **pool} for name, pool in content["pools"].items()]
    return rows + [{"running": [], **instance} for instance in content["instances"]]


def job_rows(content: Json) -> list[Json]:
    """The jobs that run or wait, with their state, instance and address."""
    return [
        {**job, "state": state, "instance": instance["name"], "address": instance["address"]}
        for state, kind in (("running", "running"), ("waiting", "waiting_jobs"))
        for instance in content["instances"]
        for job in instance.get(kind, [])
    ]


def cells(columns: Columns, row: Json) -> list[str]:
    """What a row has in each column."""
    return [printable(str(show(row))) for _, show in columns]


def accepted(content: Json) -> list[str]:
    """Accepted jobs by state, and those that failed last."""
    states = ", ".join(f"{count} {state}" for state, count in content["pools"]["slow"]["accepted"].items())
    failed = [
        f"job {job['job']} failed {_ago(content, job['ended'])}: {job['error']}: {job['route']}"
        for job in content["failed_jobs"]
    ]
    return [*([f"accepted jobs: {states}"] if states else []), *failed]


def failures(content: Json) -> list[str]:
    """The jobs that failed last, the newest first."""
    return [
        f"{job['task']} {job['outcome']} {_ago(content, job['ended'])}: {job['error']}: {job['route']} "
        f"({job['request_id']})"
        for job in content.get("failures", [])
    ]


def events(content: Json, most: int) -> list[str]:
    """What has happened, the newest first: ``2026-11-30 12:34:56 hang fast:8001: has not answered …``."""
    return [
        f"{_time(event['at'])} {event['kind']} {event['instance'] or 'all'}: {event['text']}"
        for event in itertools.islice(content.get("events", []), most)
    ]


def duration(value: float | None) -> str:
    """A duration for people: ``0.8 ms``, ``12 s``, ``3 h``."""
    if value is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1000:.3g} ms"


def _table(columns: Columns, rows: Iterable[Json]) -> list[str]:
    table = [[title for title, _ in columns], *(cells(columns, row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in table]
    return [line.rstrip() for line in lines]


def _jobs(instance: Json) -> list[Json]:
    running: list[Json] = instance.get("running", [])
    return running


def _running(instance: Json, job: Json) -> str:
    """A line such as ``slow:8101 worker 4711 runs shop.draw for 1.2 s, 40 %, page 2: /report (1f0c…)``."""
    done = "" if job["progress"] is None else f", {_percent(job['progress'])}"
    message = f", {job['message']}" if job["message"] else ""
    return (
        f"{instance['name']} worker {job['worker']} runs {job['task']} for {job['age_seconds']:.1f} s"
        f"{done}{message}: {job['route']} ({job['request_id']})"
    )


def _of(running: int, workers: int | None) -> str:
    return f"{running} of {workers}" if workers else str(running)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.0%}".replace("%", " %")


def _size(value: int | None) -> str:
    return f"{value / 2**20:.0f} MiB" if value else ""


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _ago(content: Json, at: float) -> str:
    return f"{duration(max(0, content['time'] - at))} ago"
