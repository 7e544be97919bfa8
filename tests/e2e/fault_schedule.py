"""``tests/e2e/faults``: everything that happens to a deployment, under load, and what its clients saw.

A request was answered, refused honestly (503 with Retry-After), or it failed. None may fail, but those
that were inside a process when that was killed: there a POST is answered 502, and no POST runs twice.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.e2e.targets import ENVIRONMENTS, Kill, Target
from tests.load import Client, Load, Outcome, Request
from tests.support import wait_until

KILL_MARGIN_SECONDS = 0.25
"""How exactly the time of a kill is known: nginx learns of it a little later."""

SETTLED_SECONDS = 2.0
"""How long after all instances are ready again the next event may come: an instance that had refused a
connection is avoided for as long."""

BETWEEN = "between"
"""What ends while nothing happens, or while the next event is prepared."""


@dataclass
class Row:
    """What the clients saw of an event; the longest delay is that of any request of the fast pool."""

    event: str
    times: int
    requests: int
    answered: int
    refused: int
    failed: int
    longest_seconds: float


def main() -> int:
    """Run the schedule of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests/e2e/faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="local")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=60, help="at least one round is run (%(default)s)")
    length.add_argument("--hours", type=float)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--event", help="this one alone")
    parser.add_argument("--json", type=Path, help="file to put the figures into")
    options = parser.parse_args()
    names = list(ENVIRONMENTS[options.environment].events)
    if options.event and options.event not in names:
        parser.error(f"the events of {options.environment} are {', '.join(names)}")
    seconds = options.hours * 3600 if options.hours else options.seconds
    rows, wrong = run(options.environment, seconds, options.seed, options.event)
    if options.json:
        figures = json.loads(options.json.read_text()) if options.json.exists() else {}
        figures[options.environment] = [asdict(row) for row in rows]
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if wrong else 0


def run(environment: str, seconds: float, seed: int, event: str | None = None) -> tuple[list[Row], list[str]]:
    """Run rounds of all events, or of one, until the time is over; prints and returns the table, and what is
    wrong in it."""
    print(f"faults: {environment}, {seconds:g} s, seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="slowpool-faults-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # the containers' user is another one
        with ENVIRONMENTS[environment](folder, chance) as target:
            target.wait_until_whole()
            with Load(target.port, clients(target)) as load:
                times = _run_events(target, load, chance, seconds, event)
            executed = Counter((folder / "executed").read_text().split())
            rows = table(load.requests, times)
            wrong = faults(load.requests, target.kills, executed)
    print(rendered(rows))
    _print_failures(load.requests)
    for line in wrong:
        print(f"faults: {line}")
    print(f"faults: {environment}, {len(load.requests)} requests, seed {seed}: {'wrong' if wrong else 'ok'}")
    return rows, wrong


def clients(target: Target) -> list[Client]:
    """Who asks: fast GET and POST, kept and fresh connections, and slow GET of several lengths."""
    found = []
    post = f"/record?folder={target.folder}"
    for method, path, keeps, count in (
        ("GET", "/record", True, 6),
        ("POST", post, True, 6),
        ("GET", "/record", False, 4),
        ("POST", post, False, 4),
    ):
        found += [Client(method, path, target.requests_per_second / 20, keeps) for _ in range(count)]
    for milliseconds, keeps in ((5, True), (300, False), (1500, True)):
        path = f"/slow/record?milliseconds={milliseconds}"
        found.append(Client("GET", path, 10, keeps, fast=False))
    return found


def table(requests: list[Request], times: Counter[str]) -> list[Row]:
    """One row an event, in the order of the schedule."""
    rows = []
    for event in [*times, BETWEEN]:
        own = [request for request in requests if request.event == event]
        outcomes = Counter(request.outcome for request in own)
        longest = max((request.seconds for request in own if request.client.fast), default=0)
        answered, refused, failed = (outcomes[outcome] for outcome in Outcome)
        rows.append(Row(event, times[event], len(own), answered, refused, failed, round(longest, 3)))
    return rows


def rendered(rows: list[Row]) -> str:
    """The table as text."""
    lines = ["event            times  requests  answered  refused  failed  longest delay"]
    for row in rows:
        lines.append(
            f"{row.event:15} {row.times:6} {row.requests:9} {row.answered:9} {row.refused:8} "
            f"{row.failed:7} {row.longest_seconds:12.3f} s"
        )
    return "\n".join(lines)


def guarantees(figures: dict[str, list[dict[str, Any]]]) -> str:
    """The README's table, from what ``--json`` has written."""
    lines = [
        "| where | event | requests | answered | refused | failed | longest delay |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for environment, rows in figures.items():
        for row in rows:
            counts = (f"{row[name]:,}" for name in ("requests", "answered", "refused", "failed"))
            cells = [environment, row["event"], *counts, f"{row['longest_seconds']:.3f} s"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def faults(requests: list[Request], kills: list[Kill], executed: Counter[str]) -> list[str]:
    """What is not as it has to be, each in a line."""
    found = []
    for request in requests:
        if request.outcome is Outcome.FAILED and not any(excuses(kill, request) for kill in kills):
            found.append(f"failed during {request.event}: {_described(request)}")
    for request in (request for request in requests if request.client.method == "POST"):
        count = executed[request.id]
        least = {Outcome.ANSWERED: 1, Outcome.REFUSED: 0, Outcome.FAILED: 0}[request.outcome]
        most = {Outcome.ANSWERED: 1, Outcome.REFUSED: 0, Outcome.FAILED: 1}[request.outcome]
        if not least <= count <= most:
            found.append(f"executed {count} times: {_described(request)}")
    return found


def excuses(kill: Kill, request: Request) -> bool:
    """Whether a request may fail because of a kill: it was there then, and it is one that is not repeated."""
    if request.started_at > kill.ended_at + KILL_MARGIN_SECONDS or request.ended_at < kill.started_at:
        return False
    if kill.what == "worker":
        return not request.client.fast and request.status == 500
    return request.client.method == "POST" and request.status == 502


def _run_events(
    target: Target, load: Load, chance: random.Random, seconds: float, event: str | None
) -> Counter[str]:
    names = [event] if event else list(target.events)
    times: Counter[str] = Counter(dict.fromkeys(names, 0))
    load.event = BETWEEN
    time.sleep(1)
    end = time.monotonic() + seconds
    slot = seconds / len(names)
    while not times.total() or time.monotonic() < end:
        order = chance.sample(names, len(names))
        for name in order:
            if times.total() >= len(names) and time.monotonic() > end:
                break
            started_at = time.monotonic()
            prepare, act = target.events[name]
            prepare(target, load)
            load.event = name
            act(target, load)
            target.wait_until_whole()
            settled_at = time.monotonic() + SETTLED_SECONDS
            wait_until(lambda: time.monotonic() > max(settled_at, started_at + slot), timeout=3600)  # noqa: B023
            load.event = BETWEEN
            times[name] += 1
            print(f"faults: {name} took {time.monotonic() - started_at:.1f} s", flush=True)
    return times


def _described(request: Request) -> str:
    return f"{_what(request)}, {request.outcome} after {request.seconds:.3f} s: {request.detail}"


def _print_failures(requests: list[Request]) -> None:
    failed = (request for request in requests if request.outcome is Outcome.FAILED)
    texts = Counter(f"{request.event}: {_what(request)}: {request.detail[:90]}" for request in failed)
    for text, count in texts.most_common(20):
        print(f"faults: {count} x failed during {text}")


def _what(request: Request) -> str:
    connection = "kept" if request.client.keeps else "fresh"
    return f"{request.client.method} {request.client.target.partition('?')[0]}, {connection} connection"


if __name__ == "__main__":
    sys.exit(main())
