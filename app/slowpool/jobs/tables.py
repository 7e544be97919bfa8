"""Tables: accepted jobs in a SQLite database, for one thread.

What is large has tables of its own: SQLite writes a whole row when a value in it changes.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slowpool.jobs.record import (
    Answer,
    Beat,
    Event,
    Lease,
    NewJob,
    Request,
    State,
    Status,
    Totals,
    headers_from_text,
    headers_to_text,
)
from slowpool.jobs.store import (
    DIED,
    MOST_EVENTS,
    MOST_RUNS,
    MOST_SWEPT,
    Bounds,
    has_expired,
    key_taken,
    too_large,
    too_many,
)

FREED_PAGES = 2500
"""Pages of 4 KiB that one sweep gives back to the file system."""

SCHEMA = Path(__file__).with_name("tables.sql").read_text()


class Tables:
    """The methods of Store, as functions on a connection. ``do_together`` calls and commits them."""

    def __init__(self, db: sqlite3.Connection, bounds: Bounds) -> None:
        db.row_factory = sqlite3.Row
        self._db = db
        self._bounds = bounds

    def make(self) -> None:
        """Make the tables in a database that is empty."""
        self._db.execute("pragma auto_vacuum = incremental")
        self._db.execute("pragma journal_mode = wal")
        self._db.executescript(f"begin; {SCHEMA} commit;")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def do_together(self, calls: Sequence[tuple[Callable[..., Any], Sequence[object]]]) -> list[Any]:
        """Make calls in one transaction; returns what each returns, or the exception that it raises.

        When this raises sqlite3.Error, none of them is done.
        """
        self._db.execute("begin" if all(method in READS for method, _ in calls) else "begin immediate")
        try:
            results = [self._do(method, arguments) for method, arguments in calls]
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise
        if any(method is Tables.sweep for method, _ in calls):
            self._free_space()
        return results

    def _free_space(self) -> None:
        """Give some free pages back to the file system."""
        (pages,) = self._db.execute("pragma freelist_count").fetchone()
        if pages:  # as a script: execute() would free one page only
            self._db.executescript(f"pragma incremental_vacuum({FREED_PAGES})")

    def _do(self, method: Callable[..., Any], arguments: Sequence[object]) -> Any:
        self._db.execute("savepoint one")
        try:
            result = method(self, *arguments)
        except sqlite3.Error:
            raise
        except Exception as error:  # of this call alone
            self._db.execute("rollback to one")
            result = error
        self._db.execute("release one")
        return result

    # Methods of Store.

    def add(self, job: NewJob, taken_by: str) -> tuple[Status, Lease | None]:
        now = time.time()
        if job.key and (row := self._one("select * from jobs where key = ?", job.key)):
            if row["ended"] is None or now < row["ended"] + self._bounds.result_seconds:
                if row["digest"] != job.digest:
                    raise key_taken()
                return self._status(row), None
            self._expire(row, now)
        request = job.request
        if not taken_by and self._total(State.WAITING) >= self._bounds.waiting:
            raise too_many(self._total(State.WAITING))
        if self._total("bytes") + request.size > self._bounds.total_bytes:
            raise too_large(self._total("bytes"))
        self._db.execute(
            "insert into jobs (id, state, route, owner, key, digest, repeatable, created, bytes)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                job.id,
                State.WAITING,
                job.route,
                job.owner,
                job.key or None,
                job.digest,
                job.repeatable,
                now,
                request.size,
            ],
        )
        self._db.execute(
            "insert into requests values (?, ?, ?, ?, ?)",
            [job.id, request.method, request.target, headers_to_text(request.headers), request.body],
        )
        self._note(job.id, now)
        lease = self._lease(job.id, taken_by, now, request) if taken_by else None
        return self._status(self._row(job.id)), lease

    def has_work(self) -> bool:
        """Whether there is something to take."""
        return self._next(time.time()) is not None

    def take(self, instance: str) -> Lease | None:
        now = time.time()
        id = self._next(now)
        return self._lease(id, instance, now) if id else None

    def beat(self, beats: Sequence[Beat]) -> list[str]:
        now = time.time()
        lost = []
        for beat in beats:
            row = self._held(beat.id, beat.fence)
            if row is None:
                lost.append(beat.id)
                continue
            self._set(beat.id, lease_until=now + self._bounds.lease_seconds)
            if (beat.progress, beat.message) != (row["progress"], row["message"]):
                self._set(beat.id, progress=beat.progress, message=beat.message)
                self._note(beat.id, now)
        return lost

    def finish(self, id: str, fence: int, answer: Answer | None, error: str) -> bool:
        if self._held(id, fence) is None:
            return False
        if answer:
            self._db.execute(
                "insert into answers values (?, ?, ?, ?)",
                [id, answer.status, headers_to_text(answer.headers), answer.body],
            )
            self._set(id, has_result=True)
        self._end(id, State.FAILED if error else State.DONE, time.time(), error, answer.size if answer else 0)
        return True

    def release(self, id: str, fence: int) -> bool:
        if self._held(id, fence) is None:
            return False
        self._set(id, state=State.WAITING, started=None, progress=None, message="", lease_until=None)
        self._note(id, time.time())
        return True

    def cancel(self, id: str) -> Status | None:
        row = self._found(id)
        if row is None:
            return None
        if not State(row["state"]).is_final:
            self._end(id, State.CANCELLED, time.time())
        return self._status(self._row(id))

    def status(self, id: str) -> Status | None:
        row = self._found(id)
        return self._status(row) if row else None

    def answer(self, id: str) -> Answer | None:
        self._found(id)
        row = self._one("select * from answers where id = ?", id)
        return Answer(row["status"], headers_from_text(row["headers"]), row["body"]) if row else None

    def events(self, id: str, after: int) -> list[Event]:
        self._found(id)
        rows = self._db.execute("select * from events where id = ? and change > ?", [id, after])
        return [
            Event(change, State(state), at, progress, message, error)
            for _, change, state, at, progress, message, error in rows
        ]

    def sweep(self) -> bool:
        """Whether there may be more to remove."""
        now = time.time()
        dead = "select id from jobs where state = 'running' and lease_until < ? and not repeatable limit ?"
        for row in self._db.execute(dead, [now, MOST_SWEPT]).fetchall():
            self._end(row["id"], State.FAILED, now, DIED)
        old = "select * from jobs where state in ('done', 'failed', 'cancelled') and ended <= ? limit ?"
        rows = self._db.execute(old, [now - self._bounds.result_seconds, MOST_SWEPT]).fetchall()
        for row in rows:
            self._expire(row, now)
        forgotten = "delete from expired where id in (select id from expired where until <= ? limit ?)"
        self._db.execute(forgotten, [now, MOST_SWEPT])
        return len(rows) == MOST_SWEPT

    def totals(self) -> Totals:
        oldest = self._one("select created from jobs where state = 'waiting' order by number limit 1")
        by_state = {state: self._total(state) for state in State}
        return Totals(by_state, oldest["created"] if oldest else None)

    def failures(self, count: int) -> list[Status]:
        query = "select * from jobs where state = 'failed' order by ended desc limit ?"
        return [self._status(row) for row in self._db.execute(query, [count]).fetchall()]

    # Parts of them.

    def _one(self, query: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return row

    def _row(self, id: str) -> sqlite3.Row:
        row = self._one("select * from jobs where id = ?", id)
        assert row
        return row

    def _total(self, name: str) -> int:
        row = self._one("select value from totals where name = ?", name)
        assert row
        value: int = row["value"]
        return value

    def _found(self, id: str) -> sqlite3.Row | None:
        """A job, if it is known. Raises Expired."""
        now, kept_seconds = time.time(), self._bounds.result_seconds
        if row := self._one("select * from jobs where id = ?", id):
            if row["ended"] is None or now < row["ended"] + kept_seconds:
                return row
            known_until = row["ended"] + 2 * kept_seconds
        else:
            expired = self._one("select until from expired where id = ?", id)
            known_until = expired["until"] if expired else 0
        if now < known_until:
            raise has_expired(id, kept_seconds)
        return None

    def _held(self, id: str, fence: int) -> sqlite3.Row | None:
        """A job that runs by this lease, which may have run out if nobody else has taken the job."""
        return self._one("select * from jobs where id = ? and fence = ? and state = 'running'", id, fence)

    def _set(self, id: str, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        update = f"update jobs set {names} where id = ?"  # nosec B608  # the names are the callers' own
        self._db.execute(update, [*values.values(), id])

    def _next(self, now: float) -> str | None:
        """The job to take: first one whose instance has died, since it is older."""
        again = (
            "select id from jobs where state = 'running' and lease_until < ? and repeatable"
            " order by number limit 1"
        )
        waits = "select id from jobs where state = 'waiting' order by number limit 1"
        row = self._one(again, now) or self._one(waits)
        return row["id"] if row else None

    def _lease(self, id: str, instance: str, now: float, request: Request | None = None) -> Lease:
        """Take a job, whose request is read unless it is known."""
        job = self._row(id)
        until, fence = now + self._bounds.lease_seconds, job["fence"] + 1
        if job["state"] == State.RUNNING:
            deaths = job["deaths"] + 1
            self._set(id, deaths=deaths, repeatable=job["repeatable"] and deaths + 1 < MOST_RUNS)
        self._set(id, state=State.RUNNING, started=now, progress=None, message="", fence=fence)
        self._set(id, lease_until=until, instance=instance)
        self._note(id, now)
        if request is None:
            kept = self._one("select * from requests where id = ?", id)
            assert kept
            headers = headers_from_text(kept["headers"])
            request = Request(kept["method"], kept["target"], headers, kept["body"])
        job = self._row(id)
        repeatable = bool(job["repeatable"])
        return Lease(id, fence, until, request, job["route"], job["owner"], job["created"], repeatable)

    def _end(self, id: str, state: State, now: float, error: str = "", answer_bytes: int = 0) -> None:
        """End a job; nobody needs its request any more."""
        self._db.execute("delete from requests where id = ?", [id])
        self._set(id, state=state, ended=now, error=error, lease_until=None, bytes=answer_bytes)
        self._note(id, now)

    def _expire(self, row: sqlite3.Row, now: float) -> None:
        """Keep nothing of a job but its id."""
        for table in ("jobs", "answers", "events"):
            self._db.execute(f"delete from {table} where id = ?", [row["id"]])  # nosec B608  # see above
        known_until = row["ended"] + 2 * self._bounds.result_seconds
        if now < known_until:
            self._db.execute("insert into expired values (?, ?)", [row["id"], known_until])

    def _note(self, id: str, now: float) -> None:
        """Number a change, and keep it for those who follow the job."""
        self._db.execute("update jobs set change = change + 1 where id = ?", [id])
        self._db.execute(
            "insert into events select id, change, state, ?, progress, message, error from jobs where id = ?",
            [now, id],
        )
        self._db.execute(
            "delete from events where id = ? and change <= (select change - ? from jobs where id = ?)",
            [id, MOST_EVENTS, id],
        )

    def _status(self, row: sqlite3.Row) -> Status:
        ahead = 0
        if row["state"] == State.WAITING:
            before = "select count(*) as count from jobs where state = 'waiting' and number < ?"
            ahead = self._db.execute(before, [row["number"]]).fetchone()["count"]
        return Status(
            row["id"],
            State(row["state"]),
            row["change"],
            row["route"],
            row["owner"],
            row["created"],
            row["started"],
            row["ended"],
            row["progress"],
            row["message"],
            row["error"],
            ahead,
            bool(row["has_result"]),
        )


READS = {Tables.has_work, Tables.status, Tables.answer, Tables.events, Tables.totals, Tables.failures}
"""Methods that need no lock."""
