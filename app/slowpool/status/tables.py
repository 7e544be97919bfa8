"""The status page's figures as tables of rich, for a terminal. Nothing that serves requests imports it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from slowpool.observe.untrusted import printable
from slowpool.status import plain

Json = dict[str, Any]

NARROW = 125
"""Columns of a terminal from which on all of the table fits."""

LEFT_OUT = {"up", "active", "refused", "p50", "lag", "left", "cpu", "memory", "worker", "request"}
"""What a narrower one does without."""

NUMBERS = {
    *("up", "active", "running", "waiting", "requests", "refused", "failed", "p50", "p99", "lag", "memory"),
    *("age", "left", "done", "cpu", "worker"),
}

LONG = {"task", "route", "instance", "message", "request"}
"""What is folded where there is too little room."""

STYLES = {
    "ready": "green",
    "running": "green",
    "draining": "yellow",
    "starting": "yellow",
    "waiting": "yellow",
}
"""By state; any other is red."""

MOST_FAILURES = 5


def show(renderable: RenderableType) -> None:
    """Print it."""
    Console().print(renderable)


def live() -> Live:
    """A screen of its own, whose content is replaced by ``update``."""
    return Live(screen=True, auto_refresh=False, vertical_overflow="ellipsis")


def status(content: Json) -> Group:
    """All instances, jobs, hints and events."""
    events = plain.events(content, plain.MOST_EVENTS)
    return Group(
        _table(plain.INSTANCES, plain.instances(content)),
        *_section("hints", content["hints"], "yellow"),
        *_jobs(content, MOST_FAILURES),
        *_section("events", events),
    )


def jobs(content: Json) -> Group:
    """The jobs that run or wait, accepted ones by state, and the last that have failed."""
    return Group(*(_jobs(content, None) or [Text("no job runs or waits")]))


def _jobs(content: Json, most: int | None) -> list[RenderableType]:
    rows = plain.job_rows(content)
    table: list[RenderableType] = [Text("\njobs", "bold"), _table(plain.JOBS, rows)] if rows else []
    accepted = plain.accepted(content)
    return [
        *table,
        *_section("accepted", accepted[:most]),
        *_section("failures", plain.failures(content)[:most], "red"),
    ]


def _table(columns: plain.Columns, rows: Iterable[Json]) -> Table:
    """The rows, without columns that are empty; a long text is folded, so that nothing of it is lost."""
    rows = list(rows)
    is_wide = Console().width >= NARROW
    filled = [any(cells) for cells in zip(*(plain.cells(columns, row) for row in rows), strict=True)]
    shown = [
        column
        for column, has_text in zip(columns, filled, strict=True)
        if has_text and (is_wide or column[0] not in LEFT_OUT)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, _ in shown:
        is_number = title in NUMBERS
        table.add_column(
            title, justify="right" if is_number else "left", no_wrap=title not in LONG, overflow="fold"
        )
    for row in rows:
        style = STYLES.get(row["state"], "red") if "state" in row else "bold"
        texts = zip(shown, plain.cells(shown, row), strict=True)
        table.add_row(
            *(Text(text, style if title in ("state", "instance") else "") for (title, _), text in texts)
        )
    return table


def _section(title: str, lines: list[str], style: str = "") -> list[RenderableType]:
    texts = [Text(f"  {printable(line)}", style) for line in lines]
    return [Text(f"\n{title}", "bold"), *texts] if texts else []
