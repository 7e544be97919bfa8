"""Failures: the jobs of an instance that failed last."""

import time
from collections import deque
from typing import Any

from slowpool.observe.untrusted import MAX_TEXT
from slowpool.workers.job import Job

MOST_FAILURES = 100


class Failures:
    """The last jobs that failed: their tasks raised, they were late, or their workers died."""

    def __init__(self) -> None:
        self._last: deque[dict[str, Any]] = deque(maxlen=MOST_FAILURES)

    def add(self, job: Job[Any], outcome: str, error: str) -> None:
        """Note a job that has just failed, with one of the OUTCOMES and the last line of the error."""
        line = error.rstrip().rpartition("\n")[2].strip()
        self._last.append(
            {
                "job": job.id,
                "task": job.task[:MAX_TEXT],
                "route": job.route[:MAX_TEXT],
                "request_id": job.request_id[:MAX_TEXT],
                "ended": time.time(),
                "outcome": outcome,
                "error": line[:MAX_TEXT],
            }
        )

    def add_raised(self, job: Job[Any], error: str) -> None:
        """Note a job whose task has raised, or has returned what cannot be sent."""
        self.add(job, "failed", error)

    def since(self, at: float) -> list[dict[str, Any]]:
        """Those that have failed since this Unix time, as JSON, the oldest first."""
        return [failure for failure in self._last if failure["ended"] >= at]
