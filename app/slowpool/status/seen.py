"""Seen: one instance as others see it."""

from dataclasses import dataclass, field
from typing import Any

from tornado.websocket import WebSocketClientConnection

from slowpool.config import Pool
from slowpool.observe.history import total
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.status.report import Report
from slowpool.status.steps import Steps, figures

Json = dict[str, Any]

MOST_PROCESSES = 20
"""How many processes of one instance are remembered, the present one included."""

NOT_OF_INSTANCE = {"steps", "failed_jobs", "routes", "failures", "inherited"}
"""What a report has for the pools only."""


@dataclass
class Process:
    """The steps of one process of an instance, and those that others of its pool have left to it."""

    steps: Steps = field(default_factory=Steps)
    inherited: Steps = field(default_factory=Steps)
    inherited_from: list[str] = field(default_factory=list)  # ids of processes


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
    processes: dict[str, Process] = field(default_factory=dict)  # by their ids; the present one is the last
    routes_until: int = 0  # the step up to which its routes are known

    @property
    def name(self) -> str:
        return f"{self.pool}:{self.port}"

    def update(self, answer: str | bytes, now: float) -> Report:
        """Store an answer, and return it as a report.

        Raises ValidationError, and changes nothing, when it is none.
        """
        report = Report.model_validate_json(answer)
        if self.report and _is_another_process(report, self.report) and not self.leaves:
            self.lost_at = now
        self.leaves = False
        process = self.processes.setdefault(report.process_id, Process())
        process.steps.update(report.steps)
        if report.inherited:
            process.inherited = Steps(report.inherited.steps)
            process.inherited_from = list(report.inherited.processes)
        for old in list(self.processes)[:-MOST_PROCESSES]:
            del self.processes[old]
        for one in self.processes.values():  # those that have ended become older too
            one.steps.update({})
            one.inherited.update({})
        self.report, self.answered_at, self.error = report, now, ""
        return report

    @property
    def last_step(self) -> int:
        """The number of the last step of the present process; 0 when none is known."""
        process = next(reversed(self.processes.values()), None)
        return max(process.steps.by_number, default=0) if process else 0

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
            stream = self.connection.protocol and self.connection.protocol.stream  # close() forgets it
            self.connection.close()
            if stream:
                stream.close()  # without waiting for the other's close frame
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
            **figures(total(process.steps.minute() for process in self.processes.values())),
        }


def _is_another_process(report: Report, before: Report) -> bool:
    """Whether the instance was restarted in between; one of an older release tells its age only."""
    if report.process_id:
        return report.process_id != before.process_id
    return report.uptime_seconds < before.uptime_seconds
