"""``slowpool status``: the status page's figures in the terminal."""

import argparse
import asyncio
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from slowpool.config import Config
from slowpool.errors import ConfigError
from slowpool.local_run import Run
from slowpool.observe.events import Events
from slowpool.observe.news import ask
from slowpool.observe.untrusted import printable
from slowpool.status.overview import LOOK_SECONDS, Overview

Json = dict[str, Any]

CLEAR = "\033[H\033[J"

SHOWN_EVENTS = 10

COLUMNS: list[tuple[str, Callable[[Json], object]]] = [
    ("instance", lambda row: row["name"]),
    ("address", lambda row: row.get("address", f"{row.get('answering')} of {row.get('instances')} answer")),
    ("state", lambda row: row.get("state", "")),
    ("up", lambda row: _seconds(row.get("uptime_seconds"))),
    ("active", lambda row: row.get("active", "")),
    (
        "running",
        lambda row: _of(len(row["running"]) if "port" in row else row["running"], row.get("workers")),
    ),
    ("waiting", lambda row: row.get("waiting", "")),
    ("requests", lambda row: row["requests"]),
    ("refused", lambda row: row["refused"]),
    ("failed", lambda row: row["errors"]),
    ("p50", lambda row: _seconds(row["p50_seconds"])),
    ("p99", lambda row: _seconds(row["p99_seconds"])),
    ("lag", lambda row: _seconds(row["lag_seconds"])),
    ("memory", lambda row: f"{row['resident_bytes'] / 2**20:.0f} MiB" if row.get("resident_bytes") else ""),
]


def main(arguments: Sequence[str]) -> int:
    """Print the figures; returns 0, or 1 if an instance does not answer."""
    parser = argparse.ArgumentParser(
        prog="slowpool status",
        description="Show the state of all instances. Requests, p50 and p99 cover the last minute. The "
        "exit status is 1 if an instance does not answer.",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON, times in seconds")
    parser.add_argument("--watch", action="store_true", help="update each second until Ctrl-C")
    options = parser.parse_args(arguments)
    logging.disable(logging.ERROR)  # the table shows the errors of instances
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal without full Unicode
    try:
        config = Config.load()
        if run := Run.find(config):
            if stale := run.stale(config):
                print(f"slowpool: {stale}", file=sys.stderr)
            config = run.config
        return asyncio.run(_show(config, as_json=options.json, watch=options.watch))
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 0


async def _show(config: Config, *, as_json: bool, watch: bool) -> int:
    events = Events()
    overview = Overview(config, events)
    while True:
        next_at = time.monotonic() + LOOK_SECONDS
        await overview.look()
        for news in await ask(overview.peers, 1):
            events.merge(news.events)
        content = overview.content()
        text = json.dumps(content) if as_json else _text(content)
        print(f"{CLEAR}{text}" if watch and not as_json and sys.stdout.isatty() else text, flush=True)
        if not watch:
            overview.close()
            return int(
                any(pool["answering"] < (pool["instances"] or 1) for pool in content["pools"].values())
            )
        await asyncio.sleep(max(0, next_at - time.monotonic()))


def _text(content: Json) -> str:
    rows = [{"name": f"{name} pool", **pool} for name, pool in content["pools"].items()]
    rows += [{"running": [], **instance} for instance in content["instances"]]
    cells = [[printable(str(show(row))) for _, show in COLUMNS] for row in rows]
    table = [[title for title, _ in COLUMNS], *cells]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in table]
    jobs = [_job(instance, job) for instance in content["instances"] for job in instance.get("running", [])]
    events = [_event(event) for event in reversed(content.get("events", [])[:SHOWN_EVENTS])]
    notes = [*jobs, *_accepted(content), *events, *(f"! {hint}" for hint in content["hints"])]
    return "\n".join([*(line.rstrip() for line in lines), *map(printable, notes)])


def _of(running: int, workers: int | None) -> str:
    return f"{running} of {workers}" if workers else str(running)


def _job(instance: Json, job: Json) -> str:
    """A line such as ``slow:8101 worker 4711 runs shop.draw for 1.2 s, 40 %, page 2: /report (1f0c…)``."""
    done = "" if job["progress"] is None else f", {job['progress']:.0%}".replace("%", " %")
    message = f", {job['message']}" if job["message"] else ""
    return (
        f"{instance['name']} worker {job['worker']} runs {job['task']} for {job['age_seconds']:.1f} s"
        f"{done}{message}: {job['route']} ({job['request_id']})"
    )


def _event(event: Json) -> str:
    """A line such as ``2026-11-30 12:34:56 hang fast:8001: has not answered for 10 s, and is killed``."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    return f"{at} {event['kind']} {event['instance'] or 'all'}: {event['text']}"


def _accepted(content: Json) -> list[str]:
    """Accepted jobs by state, and those that failed last."""
    states = ", ".join(f"{count} {state}" for state, count in content["pools"]["slow"]["accepted"].items())
    failed = [
        f"job {job['job']} failed {_seconds(max(0, content['time'] - job['ended']))} ago: {job['error']}: "
        f"{job['route']}"
        for job in content["failed_jobs"]
    ]
    return [*([f"accepted jobs: {states}"] if states else []), *failed]


def _seconds(value: float | None) -> str:
    """A duration for people: ``0.8 ms``, ``12 s``, ``3 h``."""
    if value is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1000:.3g} ms"
