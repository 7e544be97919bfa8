"""SqliteStore: accepted jobs in a file that the instances of one machine share.

A write-ahead log, flushed to the disk at each commit (https://www.sqlite.org/wal.html). What arrives while a
commit runs shares the next one.
"""

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from slowpool.jobs.record import Answer, Beat, Event, Headers, Lease, NewJob, Request, State, Status, Totals
from slowpool.jobs.store import DIED, MOST_EVENTS, Bounds, KeyTaken, StoreError, StoreFull

BUSY_SECONDS = 5.0
"""How long a change waits for those of other instances."""

MOST_TOGETHER = 200
"""Calls that share a commit."""

SCHEMA = """
create table if not exists jobs (
    number integer primary key autoincrement,  -- in the order of their arrival
    id text not null unique,
    state text not null,
    change integer not null,
    route text not null,
    owner text not null,
    key text unique,
    digest text not null,
    repeatable integer not null,
    method text not null,
    target text not null,
    headers text not null,
    body blob not null,
    created real not null,
    started real,
    ended real,
    progress real,
    message text not null default '',
    error text not null default '',
    fence integer not null default 0,
    lease_until real,
    instance text not null default '',
    answer_status integer,
    answer_headers text,
    answer_body blob,
    bytes integer not null  -- of the request and the answer
);
create index if not exists jobs_by_state on jobs (state, number);
create index if not exists jobs_by_end on jobs (ended);
create table if not exists events (
    id text not null,
    change integer not null,
    state text not null,
    at real not null,
    progress real,
    message text not null,
    error text not null,
    primary key (id, change)
) without rowid;
create table if not exists totals (bytes integer not null);
insert into totals select 0 where not exists (select * from totals);
"""

T = TypeVar("T")


class SqliteStore:
    """See Store. One thread has the connection, since each commit waits for the disk."""

    def __init__(self, file: Path, bounds: Bounds) -> None:
        self._file = file
        self._bounds = bounds
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        self._thread = threading.Thread(target=self._run, name="job-store", daemon=True)
        self._thread.start()
        await self._do(_Jobs.totals)

    async def close(self) -> None:
        if self._thread:
            self._calls.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def add(self, job: NewJob, *, taken_by: str = "") -> tuple[Status, Lease | None]:
        return await self._do(_Jobs.add, job, taken_by)

    async def take(self, instance: str) -> Lease | None:
        if not await self._do(_Jobs.has_work):
            return None
        return await self._do(_Jobs.take, instance)

    async def beat(self, beats: Sequence[Beat]) -> list[str]:
        return await self._do(_Jobs.beat, beats)

    async def finish(self, id: str, fence: int, answer: Answer | None, error: str = "") -> bool:
        return await self._do(_Jobs.finish, id, fence, answer, error)

    async def release(self, id: str, fence: int) -> bool:
        return await self._do(_Jobs.release, id, fence)

    async def cancel(self, id: str) -> Status | None:
        return await self._do(_Jobs.cancel, id)

    async def status(self, id: str) -> Status | None:
        return await self._do(_Jobs.status, id)

    async def answer(self, id: str) -> Answer | None:
        return await self._do(_Jobs.answer, id)

    async def events(self, id: str, after: int) -> list[Event]:
        return await self._do(_Jobs.events, id, after)

    async def sweep(self) -> None:
        await self._do(_Jobs.sweep)

    async def totals(self) -> Totals:
        return await self._do(_Jobs.totals)

    async def failures(self, count: int) -> list[Status]:
        return await self._do(_Jobs.failures, count)

    async def _do(self, method: Callable[..., T], *arguments: object) -> T:
        call = _Call(method, arguments)
        self._calls.put(call)
        return await call.answer  # type: ignore[no-any-return]  # what the method returns

    def _run(self) -> None:
        """In the thread."""
        jobs: _Jobs | None = None
        while calls := self._next_calls():
            try:
                jobs = jobs or _Jobs(self._file, self._bounds)
                jobs.do_together(calls)
            except (sqlite3.Error, OSError) as error:
                for call in calls:
                    call.fail(StoreError(f"the accepted jobs in {self._file} cannot be used: {error}"))
        if jobs:
            jobs.close()

    def _next_calls(self) -> list["_Call"]:
        """Those that have come, one at least; empty at the end."""
        calls = []
        call = self._calls.get()
        while call:
            calls.append(call)
            if len(calls) == MOST_TOGETHER:
                break
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return calls
        if calls and call is None:
            self._calls.put(None)  # for the next turn
        return calls


class _Call:
    """A call of a method of _Jobs, whose answer the event loop waits for."""

    def __init__(self, method: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        self.method = method
        self.arguments = arguments
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self.loop.create_future()

    def succeed(self, value: object) -> None:
        """In the thread."""
        self.loop.call_soon_threadsafe(self._set, value, None)

    def fail(self, error: Exception) -> None:
        """In the thread."""
        self.loop.call_soon_threadsafe(self._set, None, error)

    def _set(self, value: object, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(value)


class _Jobs:
    """The tables, for one thread. What these methods do is committed by ``do_together``."""

    def __init__(self, file: Path, bounds: Bounds) -> None:
        self._bounds = bounds
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma auto_vacuum = incremental")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def do_together(self, calls: list[_Call]) -> None:
        """Do the calls in one transaction, each in full or not at all.

        Raises sqlite3.Error when nothing of it is done.
        """
        answers: list[tuple[Callable[[Any], None], Any]] = []
        writes = any(call.method not in _READS for call in calls)
        self._db.execute("begin immediate" if writes else "begin")
        try:
            for call in calls:
                self._db.execute("savepoint one")
                try:
                    answers.append((call.succeed, call.method(self, *call.arguments)))
                except (StoreError, KeyTaken) as error:
                    self._db.execute("rollback to one")
                    answers.append((call.fail, error))
                self._db.execute("release one")
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise
        for answer, value in answers:
            answer(value)

    # Each is what the method of Store says.

    def add(self, job: NewJob, taken_by: str) -> tuple[Status, Lease | None]:
        if job.key and (found := self._one("select * from jobs where key = ?", job.key)):
            if found["digest"] != job.digest:
                raise KeyTaken
            return self._status(found), None
        request = job.request
        size = len(request.body) + len(request.target) + sum(len(n) + len(v) for n, v in request.headers)
        self._check_room(size)
        now = time.time()
        values = {
            "id": job.id,
            "state": State.WAITING,
            "change": 0,
            "route": job.route,
            "owner": job.owner,
            "key": job.key or None,
            "digest": job.digest,
            "repeatable": job.repeatable,
            "method": request.method,
            "target": request.target,
            "headers": json.dumps(request.headers),
            "body": request.body,
            "created": now,
            "bytes": size,
        }
        names = ", ".join(values)
        self._db.execute(
            f"insert into jobs ({names}) values ({', '.join('?' * len(values))})", [*values.values()]
        )
        self._db.execute("update totals set bytes = bytes + ?", [size])
        self._note(job.id, now)
        lease = self._lease(job.id, taken_by, now) if taken_by else None
        return self._status(self._row(job.id)), lease

    def has_work(self) -> bool:
        """Whether there is something to take, without a lock."""
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
        row = self._held(id, fence)
        if row is None:
            return False
        now = time.time()
        if answer:
            self._set(
                id,
                answer_status=answer.status,
                answer_headers=json.dumps(answer.headers),
                answer_body=answer.body,
            )
            self._resize(row, row["bytes"] + len(answer.body))
        self._end(id, State.FAILED if error else State.DONE, now, error)
        return True

    def release(self, id: str, fence: int) -> bool:
        if self._held(id, fence) is None:
            return False
        self._wait_again(id, time.time())
        return True

    def cancel(self, id: str) -> Status | None:
        row = self._found(id)
        if row is None:
            return None
        if not State(row["state"]).is_final:
            self._end(id, State.CANCELLED, time.time())
        return self.status(id)

    def status(self, id: str) -> Status | None:
        row = self._found(id)
        return self._status(row) if row else None

    def answer(self, id: str) -> Answer | None:
        row = self._found(id)
        if row is None or row["answer_status"] is None:
            return None
        return Answer(row["answer_status"], _headers(row["answer_headers"]), row["answer_body"])

    def events(self, id: str, after: int) -> list[Event]:
        found = self._db.execute(
            "select * from events where id = ? and change > ? order by change", [id, after]
        )
        return [
            Event(
                row["change"], State(row["state"]), row["at"], row["progress"], row["message"], row["error"]
            )
            for row in found
        ]

    def sweep(self) -> None:
        now = time.time()
        dead = "select id from jobs where state = 'running' and lease_until < ? and not repeatable"
        for (id,) in self._db.execute(dead, [now]).fetchall():
            self._end(id, State.FAILED, now, DIED)
        old = "select id, bytes from jobs where ended < ?"
        for row in self._db.execute(old, [now - self._bounds.result_seconds]).fetchall():
            self._db.execute("delete from events where id = ?", [row["id"]])
            self._db.execute("delete from jobs where id = ?", [row["id"]])
            self._db.execute("update totals set bytes = bytes - ?", [row["bytes"]])

    def totals(self) -> Totals:
        counts = self._db.execute("select state, count(*) from jobs group by state").fetchall()
        oldest = self._one("select min(created) as at from jobs where state = 'waiting'")
        return Totals({State(state): count for state, count in counts}, oldest["at"] if oldest else None)

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

    def _found(self, id: str) -> sqlite3.Row | None:
        """A job that has not expired."""
        row = self._one("select * from jobs where id = ?", id)
        if row and row["ended"] is not None and row["ended"] < time.time() - self._bounds.result_seconds:
            return None
        return row

    def _held(self, id: str, fence: int) -> sqlite3.Row | None:
        """A job that runs by this lease, which may have run out if nobody else has taken the job."""
        return self._one("select * from jobs where id = ? and fence = ? and state = 'running'", id, fence)

    def _set(self, id: str, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"update jobs set {names} where id = ?", [*values.values(), id])

    def _next(self, now: float) -> str | None:
        """The job to take: first one whose instance has died, since it is older."""
        again = "select id from jobs where state = 'running' and lease_until < ? and repeatable order by number limit 1"
        waits = "select id from jobs where state = 'waiting' order by number limit 1"
        row = self._one(again, now) or self._one(waits)
        return row["id"] if row else None

    def _lease(self, id: str, instance: str, now: float) -> Lease:
        until = now + self._bounds.lease_seconds
        self._db.execute(
            "update jobs set state = 'running', started = ?, progress = null, message = '', fence = fence + 1,"
            " lease_until = ?, instance = ? where id = ?",
            [now, until, instance, id],
        )
        self._note(id, now)
        row = self._row(id)
        request = Request(row["method"], row["target"], _headers(row["headers"]), row["body"])
        return Lease(
            id,
            row["fence"],
            until,
            request,
            row["route"],
            row["owner"],
            row["created"],
            bool(row["repeatable"]),
        )

    def _wait_again(self, id: str, now: float) -> None:
        self._set(id, state=State.WAITING, started=None, progress=None, message="", lease_until=None)
        self._note(id, now)

    def _end(self, id: str, state: State, now: float, error: str = "") -> None:
        """A final job needs its request no more."""
        self._set(id, state=state, ended=now, error=error, lease_until=None, headers="[]", body=b"")
        row = self._row(id)
        self._resize(row, len(row["answer_body"] or b""))
        self._note(id, now)

    def _resize(self, row: sqlite3.Row, size: int) -> None:
        self._db.execute("update totals set bytes = bytes + ?", [size - row["bytes"]])
        self._set(row["id"], bytes=size)

    def _note(self, id: str, now: float) -> None:
        """Number a change, and keep it for those who follow the job."""
        self._db.execute("update jobs set change = change + 1 where id = ?", [id])
        self._db.execute(
            "insert into events select id, change, state, ?, progress, message, error from jobs where id = ?",
            [now, id],
        )
        oldest = "select change - ? from jobs where id = ?"
        self._db.execute(f"delete from events where id = ? and change <= ({oldest})", [id, MOST_EVENTS, id])

    def _check_room(self, size: int) -> None:
        waiting = self._one("select count(*) as count from jobs where state = 'waiting'")
        total = self._one("select bytes from totals")
        assert waiting and total
        if waiting["count"] >= self._bounds.waiting:
            raise StoreFull(f"{waiting['count']} accepted jobs wait")
        if total["bytes"] + size > self._bounds.total_bytes:
            raise StoreFull(f"accepted jobs have {total['bytes']} bytes")

    def _status(self, row: sqlite3.Row) -> Status:
        ahead = None
        if row["state"] == State.WAITING:
            ahead = self._one(
                "select count(*) as count from jobs where state = 'waiting' and number < ?", row["number"]
            )
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
            ahead["count"] if ahead else 0,
            row["answer_status"] is not None,
        )


_READS = {_Jobs.has_work, _Jobs.status, _Jobs.answer, _Jobs.events, _Jobs.totals, _Jobs.failures}
"""They need no lock."""


def _headers(text: str) -> Headers:
    return [(name, value) for name, value in json.loads(text)]
