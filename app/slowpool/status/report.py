"""report: the state of one instance, as it is sent; Report: the same as it is received and checked."""

import time
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slowpool.config import Pool
from slowpool.instance import Runtime, State
from slowpool.jobs.record import MOST_FAILED
from slowpool.linux.memory import resident_bytes, resident_bytes_of
from slowpool.observe.counts import MOST_ROUTES, RouteCounts
from slowpool.observe.history import STEP_SECONDS, STEPS, Step
from slowpool.observe.inherited import Inherited, ProcessId
from slowpool.observe.untrusted import MAX_TEXT, Count, Seconds, Text
from slowpool.workers.failures import MOST_FAILURES

MAX_BYTES = 16 << 20
"""The largest report. With ten busy minutes, 256 jobs and 100 routes it is smaller, whatever the names."""

MOST_LEARNED = 100
"""The most learned routes in a report."""

MOST_WAITING = 50
"""The most waiting jobs in a report, which has the number of all."""


def report(runtime: Runtime, since: int, *, with_inherited: bool = False) -> dict[str, Any]:
    """The report of this instance, with its history from step ``since`` on.

    One that waits for its restart is draining already: no other one of its pool should be restarted now.
    Once per step, when ``since`` is a past one, it has the routes and the failures too.
    """
    now = time.monotonic()
    history = runtime.metrics.history
    steps = history.since(since)
    is_first_of_step = since < max(steps, default=0)  # the receiver asks from there on the next time
    jobs = sorted(runtime.workers.running_jobs, key=lambda job: -job.run_seconds)
    return {
        "state": (State.DRAINING if runtime.heartbeat.wants_restart else runtime.state).value,
        "uptime_seconds": time.time() - runtime.started_at,
        "active": runtime.requests.active,
        "waiting": len(runtime.workers.waiting_jobs),
        "running": [
            {
                "job": job.id,
                "task": job.task[:MAX_TEXT],
                "route": job.route[:MAX_TEXT],
                "request_id": job.request_id[:MAX_TEXT],
                "worker": job.worker_pid,
                "age_seconds": job.run_seconds,
                "progress": progress.fraction if progress else None,
                "message": progress.message[:MAX_TEXT] if progress else "",
                "deadline_seconds": job.deadline - now,
                "cpu_seconds": job.cpu_seconds,
                "resident_bytes": resident_bytes_of(job.worker_pid),
                "accepted": job.accepted,
            }
            for job, progress in ((job, job.progress) for job in jobs)
        ],
        "waiting_jobs": [
            {
                "job": job.id,
                "task": job.task[:MAX_TEXT],
                "route": job.route[:MAX_TEXT],
                "request_id": job.request_id[:MAX_TEXT],
                "age_seconds": job.wait_seconds,
                "place": place,
            }
            for place, job in enumerate(islice(runtime.workers.waiting_jobs, MOST_WAITING), 1)
        ],
        "learned": [
            {
                "route": route[:MAX_TEXT],
                "line": learned.line[:MAX_TEXT],
                "blocked_seconds": learned.seconds,
                "left_seconds": learned.until - now,
            }
            for route, learned in list(runtime.learned.current().items())[:MOST_LEARNED]
        ],
        "accepted": runtime.accepted_jobs,
        "failed_jobs": [
            {**job, "route": job["route"][:MAX_TEXT], "error": job["error"][:MAX_TEXT]}
            for job in runtime.failed_jobs
        ],
        "workers": runtime.workers.size if runtime.instance.pool is not Pool.FAST else 0,
        "template": runtime.workers.template_pid,
        "forks": runtime.workers.forks,
        "worker_restarts": runtime.metrics.worker_restarts,
        "resident_bytes": resident_bytes(),
        "routes": history.routes_since(since) if is_first_of_step else {},
        "failures": runtime.workers.failures.since(since * STEP_SECONDS) if is_first_of_step else [],
        "steps": steps,
        "process_id": runtime.process_id,
        "inherited": runtime.inherited.model_dump() if with_inherited else None,
    }


class _Received(BaseModel):
    """Part of a report. Other fields, as a newer release may have, are ignored."""

    model_config = ConfigDict(strict=True)


class RunningJob(_Received):
    """A job that runs in a worker; ``worker`` is its pid, ``progress`` a fraction, None if it told none."""

    route: Text
    request_id: Text
    age_seconds: Seconds
    # An older instance sends none of these.
    job: Text = ""
    task: Text = ""
    worker: Count = 0
    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    message: Text = ""
    deadline_seconds: Annotated[float, Field(ge=-1e10, le=1e10)] | None = None  # until then
    cpu_seconds: Seconds | None = None
    resident_bytes: Count | None = None
    accepted: bool = False


class WaitingJob(_Received):
    """A job that waits for a worker; the one at ``place`` 1 is the next."""

    job: Text
    task: Text
    route: Text
    request_id: Text
    age_seconds: Seconds
    place: Count


class LearnedRoute(_Received):
    """A route that has blocked the instance and is handed over to the slow pool for ``left_seconds`` more."""

    route: Text
    line: Text
    blocked_seconds: Seconds
    left_seconds: Seconds


class FailedJob(_Received):
    """An accepted job that has failed at the Unix time ``ended``."""

    job: Text
    route: Text
    ended: Annotated[float, Field(ge=0, le=1e12)]
    error: Text


class Failure(_Received):
    """A job that has failed at the Unix time ``ended``; ``error`` is the last line of its traceback."""

    job: Text
    task: Text
    route: Text
    request_id: Text
    ended: Annotated[float, Field(ge=0, le=1e12)]
    outcome: Text
    error: Text


StepRoutes = Annotated[dict[Text, RouteCounts], Field(max_length=MOST_ROUTES + 1)]


class Report(_Received):
    """A report as it is received from another instance; one that does not have these types is refused."""

    state: Annotated[str, Field(pattern="^[a-z]{1,20}$")]
    uptime_seconds: Annotated[float, Field(ge=-1e10, le=1e10)]  # less than 0 where the clock was set back
    active: Count
    waiting: Count
    running: Annotated[list[RunningJob], Field(max_length=1000)]
    waiting_jobs: Annotated[list[WaitingJob], Field(max_length=MOST_WAITING)] = Field(default_factory=list)
    learned: Annotated[list[LearnedRoute], Field(max_length=MOST_LEARNED)]
    accepted: Annotated[dict[Text, Count], Field(max_length=10)] = Field(default_factory=dict)  # by state
    failed_jobs: Annotated[list[FailedJob], Field(max_length=MOST_FAILED)] = Field(default_factory=list)
    workers: Count | None = None  # an older instance does not tell
    template: Count = 0
    forks: bool = True
    worker_restarts: Count
    resident_bytes: Count
    routes: Annotated[dict[int, StepRoutes], Field(max_length=STEPS)] = Field(default_factory=dict)
    failures: Annotated[list[Failure], Field(max_length=MOST_FAILURES)] = Field(default_factory=list)
    steps: dict[int, Step]
    process_id: ProcessId | Literal[""] = ""
    inherited: Inherited | None = None  # None: the same as in the report before
