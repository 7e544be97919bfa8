"""SqliteStore: accepted jobs in a file that the instances of one machine share.

A write-ahead log, flushed to the disk at each commit (https://www.sqlite.org/wal.html). What arrives while a
commit runs shares the next one.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from slowpool.jobs.record import Answer, Beat, Event, Lease, NewJob, Status, Totals
from slowpool.jobs.store import Bounds, StoreError
from slowpool.jobs.tables import Tables

BUSY_SECONDS = 5.0
"""How long a change waits for those of other instances."""

MOST_TOGETHER = 200
"""Calls that share a commit."""

MOST_LOG_BYTES = 16_777_216
"""Size to which the write-ahead log is cut after it has grown."""

DISK_FULL = "its disk is full: free some space, or lower JOB_STORE_BYTES"
NOT_ALLOWED = "let this user write to it and its folder, or name another file in JOBS_URL"
NOT_OURS = "move the file away, and a new one is made"
UNKNOWN = "see https://www.sqlite.org/rescode.html"
ADVICE = {
    sqlite3.SQLITE_FULL: DISK_FULL,
    sqlite3.SQLITE_IOERR: "free some space, or see what the kernel says about the disk",
    sqlite3.SQLITE_CANTOPEN: NOT_ALLOWED,
    sqlite3.SQLITE_PERM: NOT_ALLOWED,
    sqlite3.SQLITE_READONLY: NOT_ALLOWED,
    sqlite3.SQLITE_BUSY: f"another program has locked it for {BUSY_SECONDS:g} s: end that",
    sqlite3.SQLITE_NOTADB: NOT_OURS,
    sqlite3.SQLITE_CORRUPT: NOT_OURS,
    sqlite3.SQLITE_ERROR: NOT_OURS,  # a table is missing
}
"""What to do about an error of SQLite (https://www.sqlite.org/rescode.html)."""

T = TypeVar("T")


class SqliteStore:
    """See Store. One thread has the connection, since each commit waits for the disk.

    The first job makes the file. After an error, or when the file has been removed, the next call opens it
    anew.
    """

    def __init__(self, file: Path, bounds: Bounds) -> None:
        self._file = file
        self._bounds = bounds
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._tables: Tables | None = None
        self._opened: tuple[int, int] | None = None

    async def open(self) -> None:
        self._thread = threading.Thread(target=self._run, name="job-store", daemon=True)
        self._thread.start()
        await self._do(Tables.totals)

    async def close(self) -> None:
        if thread := self._thread:
            self._thread = None
            self._calls.put(None)
            await asyncio.to_thread(thread.join)

    async def add(self, job: NewJob, *, taken_by: str = "") -> tuple[Status, Lease | None]:
        return await self._do(Tables.add, job, taken_by)

    async def take(self, instance: str) -> Lease | None:
        if not await self._do(Tables.has_work):
            return None
        return await self._do(Tables.take, instance)

    async def beat(self, beats: Sequence[Beat]) -> list[str]:
        return await self._do(Tables.beat, beats)

    async def finish(self, id: str, fence: int, answer: Answer | None, error: str = "") -> bool:
        return await self._do(Tables.finish, id, fence, answer, error)

    async def release(self, id: str, fence: int) -> bool:
        return await self._do(Tables.release, id, fence)

    async def cancel(self, id: str) -> Status | None:
        return await self._do(Tables.cancel, id)

    async def status(self, id: str) -> Status | None:
        return await self._do(Tables.status, id)

    async def answer(self, id: str) -> Answer | None:
        return await self._do(Tables.answer, id)

    async def events(self, id: str, after: int) -> list[Event]:
        return await self._do(Tables.events, id, after)

    async def sweep(self) -> None:
        while await self._do(Tables.sweep):
            pass

    async def totals(self) -> Totals:
        return await self._do(Tables.totals)

    async def failures(self, count: int) -> list[Status]:
        return await self._do(Tables.failures, count)

    async def _do(self, method: Callable[..., T], *arguments: object) -> T:
        if self._thread is None:
            raise StoreError(f"the store of accepted jobs in {self._file} is closed")
        call = _Call(method, arguments)
        self._calls.put(call)
        return await call.answer  # type: ignore[no-any-return]  # what the method returns

    # In the thread.

    def _run(self) -> None:
        nothing = Tables(_connect(":memory:"), self._bounds)
        nothing.make()
        while calls := self._next_calls():
            try:
                tables = self._open_tables(calls) or nothing
                results = tables.do_together([(call.method, call.arguments) for call in calls])
            except Exception as error:  # whatever it is, nobody must wait for ever
                results = [self._failure(error) for _ in calls]
                self._close_tables()
            for call, result in zip(calls, results, strict=True):
                call.end(result)
        self._close_tables()
        nothing.close()

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

    def _open_tables(self, calls: list["_Call"]) -> Tables | None:
        """The tables of the file, which is made if one of the calls adds a job; None when there is none."""
        if self._opened != _identity(self._file):
            self._close_tables()
        if self._tables is None:
            if not os.path.exists(self._file):
                if all(call.method is not Tables.add for call in calls):
                    return None
                _make(self._file, self._bounds)
            self._tables = Tables(_connect(self._file), self._bounds)
            self._opened = _identity(self._file)
        return self._tables

    def _close_tables(self) -> None:
        if self._tables:
            self._tables.close()
        self._tables = self._opened = None

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            advice = ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        elif isinstance(error, OSError):
            advice = DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else NOT_ALLOWED
        else:
            return error
        reason = error.strerror if isinstance(error, OSError) else error
        failure = StoreError(f"accepted jobs cannot be kept in {self._file}: {reason}; {advice or UNKNOWN}")
        failure.__cause__ = error
        return failure


class _Call:
    """A call of a method of Tables, whose answer the event loop waits for."""

    def __init__(self, method: Callable[..., Any], arguments: Sequence[object]) -> None:
        self.method = method
        self.arguments = arguments
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def end(self, result: object) -> None:
        """Return the result, or raise it if it is an exception; in the thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self.answer.get_loop().call_soon_threadsafe(self._set, result)

    def _set(self, result: object) -> None:
        if self.answer.done():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


def _make(file: Path, bounds: Bounds) -> None:
    """Make a file without jobs, which only this user can read, unless another instance has just done so."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if file.exists():
            return
        new = file.with_name(f"{file.name}-new")
        for stale in (new, f"{new}-wal", f"{new}-shm", f"{file}-wal", f"{file}-shm"):
            Path(stale).unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(Tables(_connect(new), bounds)) as tables:
            tables.make()
        new.rename(file)
        os.fsync(folder)
    finally:
        os.close(folder)


def _connect(file: Path | str) -> sqlite3.Connection:
    """Open a file, which must exist, or ``:memory:``."""
    place = f"{file.resolve().as_uri()}?mode=rw" if isinstance(file, Path) else file
    db = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    db.execute("pragma synchronous = full")
    db.execute(f"pragma journal_size_limit = {MOST_LOG_BYTES}")
    return db


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file has the name now; None for none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
