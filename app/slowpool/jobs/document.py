"""An accepted job as its client sees it."""

from datetime import UTC, datetime
from typing import Any

from slowpool.instance import Runtime
from slowpool.jobs.record import State, Status

PREFIX = "/slow/jobs/"
"""The path of a job, before its id."""


def document(runtime: Runtime, status: Status) -> dict[str, Any]:
    """The JSON of a job; ``starts_in_seconds`` is estimated from this instance's jobs, None if it runs."""
    path = f"{PREFIX}{status.id}"
    return {
        "id": status.id,
        "state": status.state,
        "progress": 1 if status.state is State.DONE else status.progress,
        "message": status.message,
        "created": _time(status.created),
        "started": _time(status.started),
        "ended": _time(status.ended),
        "result": f"{path}/result" if status.has_result else None,
        "events": f"{path}/events",
        "error": status.error or None,
        **_place(runtime, status),
    }


def _place(runtime: Runtime, status: Status) -> dict[str, Any]:
    """The place in the queue; other replicas, which may take jobs too, are not known here."""
    if status.state is not State.WAITING:
        return {"ahead": None, "starts_in_seconds": None}
    seconds = runtime.workers.estimate_seconds(status.ahead + 1) / runtime.config.slow_processes
    return {"ahead": status.ahead, "starts_in_seconds": round(seconds, 3)}


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
