"""What is kept of an accepted job."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

Headers = list[tuple[str, str]]

MOST_FAILED = 100
"""The most jobs that have failed, in a report and on the status page."""


def headers_to_text(headers: Headers) -> str:
    """Headers as a store keeps them."""
    return json.dumps(headers)


def headers_from_text(text: str | bytes) -> Headers:
    """Headers that a store has kept."""
    return [(name, value) for name, value in json.loads(text)]


class State(StrEnum):
    """Where a job is in its life. The last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it stays as it is."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Request:
    """The request that a client sent, as the application sees it."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it counts in a store."""
        return len(self.target) + _size(self.headers) + len(self.body)


@dataclass(frozen=True)
class Answer:
    """What the handler answered."""

    status: int
    headers: Headers
    body: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it counts in a store."""
        return _size(self.headers) + len(self.body)


@dataclass(frozen=True)
class NewJob:
    """A job that is to be accepted.

    ``key`` is the client's Idempotency-Key with what it is valid for, ``digest`` the digest of the request;
    both are empty without such a key. A ``repeatable`` request may run twice. Only who has the same ``owner``
    may see the job; empty: whoever knows its id.
    """

    id: str
    request: Request
    route: str = ""
    owner: str = ""
    key: str = ""
    digest: str = ""
    repeatable: bool = False


@dataclass(frozen=True)
class Status:
    """A job as it is now; times in seconds since the epoch. ``change`` numbers what has happened to it."""

    id: str
    state: State
    change: int
    route: str
    owner: str
    created: float
    started: float | None = None
    ended: float | None = None
    progress: float | None = None  # 0 to 1
    message: str = ""
    error: str = ""  # why it failed
    ahead: int = 0  # how many wait before it
    has_result: bool = False


@dataclass(frozen=True)
class Lease:
    """The right to run a job, until ``until`` at first. ``fence`` is one more at each take.

    A ``repeatable`` job may run a second time.
    """

    id: str
    fence: int
    until: float
    request: Request
    route: str
    owner: str
    created: float
    repeatable: bool


@dataclass(frozen=True)
class Event:
    """One change of a job: what a client that follows it is told."""

    change: int
    state: State
    at: float
    progress: float | None = None
    message: str = ""
    error: str = ""


@dataclass(frozen=True)
class Beat:
    """That an instance still runs a job, and how far it is."""

    id: str
    fence: int
    progress: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Totals:
    """How many jobs there are by state, all of them, and since when the oldest waits, as a Unix time."""

    by_state: dict[State, int] = field(default_factory=dict)
    oldest_waiting: float | None = None


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
