"""Seen: one instance as others see it."""

from dataclasses import dataclass, field
from typing import Any

from tornado.websocket import WebSocketClientConnection

from slowpool.config import Pool
from slowpool.observe.history import MINUTE_STEPS, STEPS, Step, step_number, total
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.status.report import Report

Json = dict[str, Any]

NOT_OF_INSTANCE = {"steps", "failed_jobs", "routes", "failures"}
"""What a report has for the pools only."""


@dataclass
class Seen:
    """One instance as it was last seen; times are from the monotonic clock."""

    pool: Pool
    address: str
    port: int
    first_looked_at: float
    answered_at: float = 0
    lost_at: float = 0  # when a restart without a close frame was noticed
    leaves: bool = False  # it has sent a close frame
    connection: WebSocketClientConnection | None = None
    error: str = ""
    trouble: str = "no answer"  # its state when there is an error
    report: Report | None = None
    steps: dict[int, Step] = field(default_factory=dict)
    routes_until: int = 0  # the step up to which its routes are known
    _older: Step = field(default_factory=Step)
    _older_of: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return f"{self.pool}:{self.port}"

    def update(self, answer: str | bytes, now: float) -> Report:
        """Store an answer, and return it as a report.

        Raises ValidationError, and changes nothing, when it is none.
        """
        report = Report.model_validate_json(answer)
        restarted = self.report is not None and report.uptime_seconds < self.report.uptime_seconds
        if restarted and not self.leaves:
            self.lost_at = now
        self.leaves = False
        last = step_number() + 1  # its clock may be a little ahead
        known = {**self.steps, **report.steps}
        self.steps = {number: step for number, step in known.items() if last - STEPS < number <= last}
        self.report, self.answered_at, self.error = report, now, ""
        return report

    @property
    def state(self) -> str:
        """The state in its report, "stopped" after a close frame, "no answer" or "unreadable"."""
        if self.leaves:
            return "stopped"
        if self.error:
            return self.trouble
        return self.report.state if self.report else "starting"

    def disconnect(self, error: str, trouble: str = "no answer") -> None:
        """Store the error and close the connection; the next poll connects again."""
        self.error, self.trouble = printable(error[:MAX_TEXT]), trouble
        if self.connection:
            self.connection.close()
            self.connection = None

    def content(self, now: float) -> Json:
        """The instance as JSON for the page; times in seconds."""
        return {
            "name": self.name,
            "address": self.address,
            "pool": self.pool,
            "port": self.port,
            "error": self.error,
            "silent_seconds": now - (self.answered_at or self.first_looked_at),
            "lost_seconds": now - self.lost_at if self.lost_at else None,
            **(self.report.model_dump(exclude=NOT_OF_INSTANCE) if self.report and not self.error else {}),
            "state": self.state,
            **figures(self.minute()),
        }

    def minute(self) -> Step:
        """The sum of the last minute's steps; of all but the newest it is kept, since they do not change."""
        first, newest = step_number() - MINUTE_STEPS, max(self.steps, default=0)
        if self._older_of != (first, newest):
            self._older_of = (first, newest)
            self._older = total(step for number, step in self.steps.items() if first < number < newest)
        return total([self._older, *([self.steps[newest]] if newest > first else [])])


def figures(step: Step) -> Json:
    """The sums of a time, and its quantiles, as JSON for the page."""
    return {
        "requests": step.requests,
        "errors": step.errors,
        "refused": step.refused,
        "p50_seconds": step.quantile(0.5),
        "p99_seconds": step.quantile(0.99),
        "lag_seconds": step.lag_seconds,
    }
