"""ValkeyStore: accepted jobs in a Valkey or Redis server, for the instances of several machines.

The server needs version 6.2, ``appendonly yes`` and ``maxmemory-policy noeviction``. From version 7.2 on it
is asked whether a change is on its disk (https://valkey.io/commands/waitaof/); an older one needs
``appendfsync always`` too. With that the wait is short; with ``everysec`` it is up to a second.
"""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from slowpool.errors import ConfigError
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
    StoreError,
    has_expired,
    key_taken,
    too_large,
    too_many,
)

log = logging.getLogger("slowpool")

TAG = "{slowpool}"
"""All keys begin with it, so that a cluster keeps them together (https://valkey.io/topics/cluster-spec/)."""

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
DISK_SECONDS = 3.0
"""Limits for a connection, for each answer, and for a change to reach the server's disk."""

MOST_CONNECTIONS = 8
"""Connections of one instance; further calls wait."""

SCRIPT = Path(__file__).with_name("valkey.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

READS = {"status", "answer", "events", "totals", "failures"}

ADVICE = {
    "Authentication|NOAUTH|WRONGPASS|NoPermission|NOPERM": "check the user and the password in JOBS_URL",
    "ReadOnly|READONLY": "it is a replica: name the primary in JOBS_URL",
    "OutOfMemory|OOM ": "raise its maxmemory, or lower JOB_STORE_BYTES",
    "BusyLoading|LOADING": "it still reads its data: try again later",
    "MISCONF": "its disk fails or is full: free some space there",
    "MOVED|CLUSTERDOWN": f"name the node of its cluster that has the slot of {TAG} in JOBS_URL",
}
"""What to do about an error that such a text is found in."""


class ValkeyStore:
    """See Store. Each method is one call of a script (valkey.lua), by the server's clock."""

    def __init__(self, url: str, bounds: Bounds) -> None:
        self._server = _server(url)
        self._bounds = bounds
        pool = BlockingConnectionPool.from_url(
            re.sub("^valkey", "redis", url),
            max_connections=MOST_CONNECTIONS,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # a change that may have been made is not made again
            protocol=2,
        )
        self._client = Redis.from_pool(pool)

    async def open(self) -> None:
        try:
            persistence = await self._client.info("persistence")
        except (RedisError, OSError) as error:
            raise self._failure(error) from error
        if not persistence.get("aof_enabled"):
            what = "accepted jobs are lost when the server at %s restarts: set appendonly yes there"
            log.warning(what, self._server)

    async def close(self) -> None:
        await self._client.aclose()

    async def add(self, job: NewJob, *, taken_by: str = "") -> tuple[Status, Lease | None]:
        request = job.request
        row, lease = await self._do(
            "add",
            job.id,
            job.key,
            job.digest,
            int(job.repeatable),
            job.route,
            job.owner,
            request.method,
            request.target,
            headers_to_text(request.headers),
            request.body,
            request.size,
            taken_by,
            self._bounds.waiting,
            self._bounds.total_bytes,
        )
        return _status(row), _lease(lease, request) if lease else None

    async def take(self, instance: str) -> Lease | None:
        found = await self._do("take", instance)
        return _lease(found[0]) if found else None

    async def beat(self, beats: Sequence[Beat]) -> list[str]:
        told: list[tuple[str | int, ...]] = [
            (beat.id, beat.fence, "" if beat.progress is None else repr(beat.progress), beat.message)
            for beat in beats
        ]
        return [id.decode() for id in await self._do("beat", *itertools.chain(*told))]

    async def finish(self, id: str, fence: int, answer: Answer | None, error: str = "") -> bool:
        values: tuple[int | str | bytes, ...] = (0, "", "", "")
        if answer:
            values = (answer.size, answer.status, headers_to_text(answer.headers), answer.body)
        return bool(await self._do("finish", id, fence, error, *values))

    async def release(self, id: str, fence: int) -> bool:
        return bool(await self._do("release", id, fence))

    async def cancel(self, id: str) -> Status | None:
        found = await self._do("cancel", id)
        return _status(found[0]) if found else None

    async def status(self, id: str) -> Status | None:
        found = await self._do("status", id)
        return _status(found[0]) if found else None

    async def answer(self, id: str) -> Answer | None:
        found = await self._do("answer", id)
        return Answer(int(found[0]), headers_from_text(found[1]), found[2]) if found else None

    async def events(self, id: str, after: int) -> list[Event]:
        return [_event(text) for text in await self._do("events", id, after)]

    async def sweep(self) -> None:
        while await self._do("sweep", MOST_SWEPT, DIED) == [1]:
            pass

    async def totals(self) -> Totals:
        oldest, *counts = await self._do("totals")
        by_state = {state: int(count or 0) for state, count in zip(State, counts, strict=True)}
        return Totals(by_state, float(oldest) if oldest else None)

    async def failures(self, count: int) -> list[Status]:
        return [_status(row) for row in await self._do("failures", count)]

    async def _do(self, method: str, *arguments: int | str | bytes) -> list[Any]:
        """What a method of the script returns; empty when there is no such job, or nothing to do."""
        bounds = self._bounds
        common = (1, TAG, method, bounds.lease_seconds, bounds.result_seconds, MOST_EVENTS, MOST_RUNS)
        try:
            for command, script in (("EVALSHA", SCRIPT_SHA), ("EVAL", SCRIPT)):
                async with self._client.pipeline(transaction=False) as calls:
                    calls.execute_command(command, script, *common, *arguments)
                    if method not in READS:
                        calls.execute_command("WAITAOF", 1, 0, round(DISK_SECONDS * 1000))
                    reply, *disk = await calls.execute(raise_on_error=False)
                if not isinstance(reply, NoScriptError):
                    break
            if isinstance(reply, RedisError):
                raise reply
        except (RedisError, OSError) as error:
            raise self._failure(error) from error
        if method != "take":  # without the lease, nobody would run the job
            for result in disk:
                self._check_disk(result)
        word: bytes
        values: list[Any]
        word, *values = reply
        if word == b"expired":
            raise has_expired(str(arguments[0]), bounds.result_seconds)
        if word == b"key taken":
            raise key_taken()
        if word == b"too many":
            raise too_many(int(values[0]))
        if word == b"too large":
            raise too_large(int(values[0]))
        return values

    def _check_disk(self, result: list[int] | RedisError) -> None:
        """Raise StoreError when a change has not reached the server's disk, if the server can tell."""
        if isinstance(result, list) and not result[0]:
            late = f"a change was not on its disk after {DISK_SECONDS:g} s; see whether that is slow or full"
            raise StoreError(f"accepted jobs cannot be kept in the server at {self._server}: {late}")

    def _failure(self, error: Exception) -> StoreError:
        advice = f"see that it runs, and that JOBS_URL names it ({type(error).__name__})"
        for sign, known in ADVICE.items():
            if re.search(sign, f"{type(error).__name__} {error}"):
                advice = known
                break
        return StoreError(f"accepted jobs cannot be kept in the server at {self._server}: {error}; {advice}")


def _server(url: str) -> str:
    """Its host and port. Raises ConfigError, without what may be a part of the password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
    except ValueError:
        host = None
    if not host:
        raise ConfigError(
            "JOBS_URL names no server: write valkey://USER:PASSWORD@HOST:PORT/0, and each / and @ in the "
            "password as %2F and %40"
        )
    return f"{host}:{port}"


def _status(row: Any) -> Status:
    id, state, change, route, owner, created, started, ended, progress, message, error, answer, ahead = row
    return Status(
        id.decode(),
        State(state.decode()),
        int(change),
        route.decode(),
        owner.decode(),
        float(created),
        _number(started),
        _number(ended),
        _number(progress),
        message.decode(),
        error.decode(),
        ahead,
        answer is not None,
    )


def _lease(found: Any, known: Request | None = None) -> Lease:
    (id, fence, route, owner, created, repeatable), until, kept = found
    if known is None:
        method, target, headers, body = kept
        known = Request(method.decode(), target.decode(), headers_from_text(headers), body)
    return Lease(
        id.decode(),
        int(fence),
        float(until),
        known,
        route.decode(),
        owner.decode(),
        float(created),
        repeatable == b"1",
    )


def _event(text: bytes) -> Event:
    change, state, at, progress, message, error = json.loads(text)
    return Event(int(change), State(state), float(at), _number(progress), message, error)


def _number(text: bytes | str | None) -> float | None:
    return float(text) if text else None
