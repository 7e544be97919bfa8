"""Where accepted jobs are kept: what each kind of store does.

The storage layers of task queues do not have what is needed: huey removes a job when it is taken, saq and
procrastinate need a server, taskiq sends one again after a fixed time, and none has fences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slowpool.errors import SlowpoolError
from slowpool.jobs.record import Answer, Beat, Event, Lease, NewJob, Status, Totals

DIED = "its instance died; it may have run"
"""Why a job has failed that may not run twice."""

EXPIRY_SECONDS = 60
"""``Retry-After`` when only the expiry of answers makes room."""

MOST_RUNS = 3
"""How often a job may run because the instances that ran it have died: it may be what ends them."""

MOST_SWEPT = 300
"""Jobs that one step of a sweep ends or removes: the store is not held up for longer."""

MOST_EVENTS = 200
"""Events that are kept of a job, the oldest of them first to go; its last state always is."""


class StoreError(SlowpoolError):
    """The store cannot be used now, such as for a full disk or a server that does not answer."""


class StoreFull(StoreError):
    """More jobs would wait, or more bytes be kept, than may.

    ``retry_after_seconds`` is None if it depends on how fast jobs run.
    """

    def __init__(self, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Expired(SlowpoolError):
    """There was such a job, and nothing is kept of it any more."""


class KeyTaken(SlowpoolError):
    """Another request had the same Idempotency-Key."""


def has_expired(id: str, kept_seconds: float) -> Expired:
    """The error for a job that ended too long ago."""
    return Expired(f"job {id} has ended, and JOB_RESULT_SECONDS={kept_seconds:g} have passed since")


def key_taken() -> KeyTaken:
    """The error for a key that another request had."""
    return KeyTaken("another request had this Idempotency-Key")


def too_many(waiting: int) -> StoreFull:
    """The error for one job more than JOB_QUEUE."""
    return StoreFull(f"{waiting} accepted jobs wait, and JOB_QUEUE allows no more")


def too_large(kept_bytes: int) -> StoreFull:
    """The error for more bytes than JOB_STORE_BYTES."""
    message = f"accepted jobs have {kept_bytes} bytes, and JOB_STORE_BYTES allows no more"
    return StoreFull(message, EXPIRY_SECONDS)


@dataclass(frozen=True)
class Bounds:
    """Limits of a store.

    Jobs that wait; bytes of all requests and answers; how long a final job stays, after which its id is known
    for as long again; and after what silence an instance has lost its jobs. A job that is taken at once does
    not wait, and an answer is kept even if the bytes are more then.
    """

    waiting: int
    total_bytes: int
    result_seconds: float
    lease_seconds: float


class Store(Protocol):
    """Keeps accepted jobs. What a method has done is durable when it returns.

    Each change of a job that runs needs the fence of its lease: an instance that was given up for dead cannot
    change a job that another one has taken. Every method raises StoreError; cancel, status, answer and events
    raise Expired.
    """

    async def open(self) -> None:
        """Connect, and make what is missing."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...

    async def add(self, job: NewJob, *, taken_by: str = "") -> tuple[Status, Lease | None]:
        """Accept a job, at once with a lease for ``taken_by``; the job of the same key if there is one.

        Raises StoreFull, and KeyTaken when that was another request.
        """
        ...

    async def take(self, instance: str) -> Lease | None:
        """A job whose instance has died and that may run again, or else the oldest that waits."""
        ...

    async def beat(self, beats: Sequence[Beat]) -> list[str]:
        """Extend leases, and note progress; returns the ids of the jobs that the caller no longer has."""
        ...

    async def finish(self, id: str, fence: int, answer: Answer | None, error: str = "") -> bool:
        """End a job that runs: with its answer, and failed with an error; whether it was the caller's."""
        ...

    async def release(self, id: str, fence: int) -> bool:
        """Have a job wait again, in its old place; whether it was the caller's.

        It must not have begun, or be one that may run twice.
        """
        ...

    async def cancel(self, id: str) -> Status | None:
        """Cancel a job that is not final; returns it as it is then."""
        ...

    async def status(self, id: str) -> Status | None:
        """A job; None when there is none, or none any more."""
        ...

    async def answer(self, id: str) -> Answer | None:
        """The answer of a job that has one."""
        ...

    async def events(self, id: str, after: int) -> list[Event]:
        """What has happened to a job after this change."""
        ...

    async def sweep(self) -> None:
        """Fail the jobs of dead instances that may not run twice, and remove all that has expired."""
        ...

    async def totals(self) -> Totals:
        """How many there are."""
        ...

    async def failures(self, count: int) -> list[Status]:
        """The last jobs that failed, newest first."""
        ...
