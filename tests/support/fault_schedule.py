"""``tests/bench/faults``: everything that happens to a deployment, under load, and what its clients saw.

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
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.accepted import AcceptedJobs
from tests.support.load import Client, Load, Outcome, Request
from tests.support.targets import ENVIRONMENTS, Kill, Target

KILL_MARGIN_SECONDS = 0.25
"""How exactly the time of a kill is known: nginx learns of it a little later."""

SETTLED_SECONDS = 2.0
"""How long after all instances are ready again the next event may come: an instance that had refused a
connection is avoided for as long."""

BETWEEN = "between"
"""What ends while nothing happens, or while the next event is prepared."""


ACCEPTED = "accepted jobs"
"""The row of those that were accepted: done is answered, and failed where it may have run is refused."""

SLOT_SECONDS = 10.0
"""What an event takes at most, unless it takes longer itself."""

RUNS = {Outcome.ANSWERED: (1,), Outcome.REFUSED: (0,), Outcome.FAILED: (0, 1)}
"""How often a POST may have run, by what became of it."""


@dataclass
class Row:
    """What the clients saw of an event; the longest delay is that of any request of the fast pool."""

    event: str
    times: int = 0
    requests: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    longest_seconds: float = 0.0


class Findings:
    """Counts the outcomes and errors of all requests, and keeps none: there may be hours of them."""

    def __init__(self, events: list[str]) -> None:
        self.rows = {event: Row(event) for event in [*events, BETWEEN, ACCEPTED]}
        self.wrong: list[str] = []
        self.unanswered: Counter[str] = Counter()
        self._posts = bytearray()  # the outcome of each request, by its number; 0 where it is no POST

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(row.requests for row in self.rows.values())

    def add(self, requests: list[Request], kills: list[Kill]) -> None:
        """Count these, all of which have ended, and find those that failed and need not have."""
        for request in requests:
            row = self.rows[request.event]
            row.requests += 1
            setattr(row, request.outcome, getattr(row, request.outcome) + 1)
            if request.client.fast:
                row.longest_seconds = max(row.longest_seconds, round(request.seconds, 3))
            if request.client.method == "POST":
                number = int(request.id)
                self._posts.extend(bytes(max(0, number + 1 - len(self._posts))))
                self._posts[number] = list(Outcome).index(request.outcome) + 1
            if request.outcome is not Outcome.ANSWERED:
                self.unanswered[f"{request.outcome} during {request.event}: {request}"] += 1
            if request.outcome is Outcome.FAILED and not any(excuses(kill, request) for kill in kills):
                self.wrong.append(f"failed during {request.event}: {request}")

    def add_jobs(self, jobs: AcceptedJobs, executed: Iterable[str], kills: list[Kill]) -> None:
        """Count what has become of accepted jobs."""
        jobs.judge(executed, worker_was_killed=any(kill.what == "worker" for kill in kills))
        done = sum(job.state == "done" for job in jobs.accepted)
        right = sum(job.is_right for job in jobs.accepted)
        count = len(jobs.accepted)
        self.rows[ACCEPTED] = Row(ACCEPTED, 1, count, done, right - min(done, right), count - right)
        self.wrong += jobs.wrong

    def compare(self, executed: Iterable[str]) -> None:
        """Find each POST that has run too often or not at all, from the record of what has run."""
        runs = Counter(map(int, executed))
        for number, code in enumerate(self._posts):
            if code:
                outcome = list(Outcome)[code - 1]
                if runs[number] not in RUNS[outcome]:
                    self.wrong.append(f"POST {number} was {outcome} and has run {runs[number]} times")


def main() -> int:
    """Run the schedule of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tests/bench/faults", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="local")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=60, help="at least one round is run (%(default)s)")
    length.add_argument("--hours", type=float)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--event", help="run only this event")
    parser.add_argument("--json", type=Path, help="file to put the figures into")
    options = parser.parse_args()
    names = list(ENVIRONMENTS[options.environment].events)
    if options.event and options.event not in names:
        parser.error(f"the events of {options.environment} are {', '.join(names)}")
    seconds = options.hours * 3600 if options.hours else options.seconds
    without = [name for name in names if options.event and name != options.event]
    findings = run(options.environment, seconds, options.seed, without)
    if options.json:
        figures = json.loads(options.json.read_text()) if options.json.exists() else {}
        figures[options.environment] = [asdict(row) for row in findings.rows.values()]
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if findings.wrong else 0


def run(environment: str, seconds: float, seed: int, without: Container[str] = ()) -> Findings:
    """Run rounds of the events in an environment of its own; prints the table and what is wrong."""
    print(f"faults: {environment}, {seconds:g} s, seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="slowpool-faults-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # the containers' user is another one
        with ENVIRONMENTS[environment](folder, chance) as target:
            findings = examine(target, folder, seconds, without)
    print(f"faults: {environment}, seed {seed}: {'wrong' if findings.wrong else 'ok'}")
    return findings


def examine(target: Target, folder: Path, seconds: float, without: Container[str] = ()) -> Findings:
    """Run rounds of a target's events until the time is over; what has run is recorded below the folder."""
    events = [event for event in target.events if event not in without]
    findings = Findings(events)
    # One for each time: a POST that a lost node held can still run when the node is back, after all this.
    folder = Path(tempfile.mkdtemp(dir=folder))
    folder.chmod(0o777)  # the containers' user is another one
    target.wait_until_whole()
    load = Load(target.port, clients(target, folder.name), target.addresses)
    load.event = BETWEEN
    jobs = AcceptedJobs(target.port, target.addresses[0], f"{target.folder}/{folder.name}/jobs")
    (folder / "jobs").mkdir()
    (folder / "jobs").chmod(0o777)
    with jobs, load:  # the jobs are waited for without the load
        _run_events(target, load, seconds, events, findings)
    findings.add(load.take(), target.kills)
    with (folder / "executed").open() as executed:
        findings.compare(executed)
    findings.add_jobs(jobs, (folder / "jobs" / "executed").read_text().split(), target.kills)
    print(rendered(list(findings.rows.values())))
    for text, count in findings.unanswered.most_common(20):
        print(f"faults: {count} x {text}")
    for line in findings.wrong:
        print(f"faults: wrong: {line}")
    print(f"faults: {findings.requests} requests")
    return findings


def clients(target: Target, record: str) -> list[Client]:
    """Who asks: fast GET and POST, kept and fresh connections, and slow GET of several lengths."""
    found = []
    post = f"/record?folder={target.folder}/{record}"
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
    """The table of deploy/README.md, from what ``--json`` has written."""
    lines = [
        "| where | event | requests | answered | refused | failed | longest delay |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for environment, rows in figures.items():
        for row in rows:
            counts = (f"{row[name]:,}" for name in ("requests", "answered", "refused", "failed"))
            longest = "–" if row["event"] == ACCEPTED else f"{row['longest_seconds']:.3f} s"
            cells = [environment, row["event"], *counts, longest]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def excuses(kill: Kill, request: Request) -> bool:
    """Whether a request may fail because of a kill: it was there then, and it is one that is not repeated."""
    if request.started_at > kill.ended_at + KILL_MARGIN_SECONDS or request.ended_at < kill.started_at:
        return False
    if kill.what == "worker":
        return not request.client.fast and request.status == 502
    if kill.what == "node":  # what it held is silent until nginx gives it up
        return request.status == 504
    if kill.what == "nginx":
        return True
    return request.client.method == "POST" and request.status == 502


def _run_events(
    target: Target,
    load: Load,
    seconds: float,
    events: list[str],
    findings: Findings,
) -> None:
    time.sleep(1)
    end = time.monotonic() + seconds
    slot = min(seconds / len(events), SLOT_SECONDS)
    first_round = True
    while first_round or time.monotonic() < end:
        for event in target.chance.sample(events, len(events)):
            if not first_round and time.monotonic() > end:
                break
            started_at = time.monotonic()
            prepare, act = target.events[event]
            prepare(target, load)
            load.event = event
            act(target, load)
            target.wait_until_whole()
            settled_at = max(time.monotonic() + SETTLED_SECONDS, started_at + slot)
            time.sleep(settled_at - time.monotonic())
            load.event = BETWEEN
            findings.add(load.take(), target.kills)
            findings.rows[event].times += 1
            print(f"faults: {event} took {time.monotonic() - started_at:.1f} s", flush=True)
        first_round = False


if __name__ == "__main__":
    sys.exit(main())
