"""Overview: combines the reports of all instances of both pools."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from tornado.httpclient import HTTPError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from slowpool.config import Config, Pool
from slowpool.instance import GOING_AWAY
from slowpool.observe.history import STEP_SECONDS, STEPS, Step, step_number, total
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.status.advice import hints
from slowpool.status.report import MAX_BYTES, MOST_FAILED, LearnedRoute, Report

log = logging.getLogger("slowpool")

LOOK_SECONDS = 1.0
"""How often instances are polled while anyone watches, and how long one has to answer."""

GONE_FOR_SECONDS = 60.0
"""How long an instance is shown after its last answer."""

MINUTE_STEPS = 60 // STEP_SECONDS

Json = dict[str, Any]


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

    @property
    def name(self) -> str:
        return f"{self.pool}:{self.port}"

    def update(self, answer: str | bytes, now: float) -> None:
        """Store an answer. Raises ValidationError, and changes nothing, when it is no report."""
        report = Report.model_validate_json(answer)
        restarted = self.report is not None and report.uptime_seconds < self.report.uptime_seconds
        if restarted and not self.leaves:
            self.lost_at = now
        self.leaves = False
        last = step_number() + 1  # its clock may be a little ahead
        known = {**self.steps, **report.steps}
        self.steps = {number: step for number, step in known.items() if last - STEPS < number <= last}
        self.report, self.answered_at, self.error = report, now, ""

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
            **(
                self.report.model_dump(exclude={"steps", "failed_jobs"})
                if self.report and not self.error
                else {}
            ),
            "state": self.state,
            **_figures(self.minute()),
        }

    def minute(self) -> Step:
        """The sum of the last minute's steps."""
        first = step_number() - MINUTE_STEPS
        return total(step for number, step in self.steps.items() if number > first)


class Overview:
    """Polls all instances while anyone watches, and sends the result to every watcher."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen: dict[tuple[str, int], Seen] = {}
        self._addresses: dict[Pool, list[str]] = {Pool.FAST: [], Pool.SLOW: []}
        self._lookups: dict[Pool, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Queue[str]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Poll every instance; returns when all have answered or timed out."""
        now = time.monotonic()
        await self._find()
        for pool, addresses in self._addresses.items():
            for instance in self._config.instances(pool):
                for address in addresses:
                    key = (address, instance.port)
                    self._seen.setdefault(key, Seen(pool, address, instance.port, now))
        for key, seen in list(self._seen.items()):
            known = seen.address in self._addresses[seen.pool]
            if not known and now - max(seen.answered_at, seen.first_looked_at) > GONE_FOR_SECONDS:
                del self._seen[key]
        await asyncio.gather(*map(self._ask, self._seen.values()))

    def content(self, since: int = 0) -> Json:
        """The figures of the last minute, and the steps from ``since`` on."""
        now = time.monotonic()
        instances = [seen.content(now) for _, seen in sorted(self._seen.items(), key=_by_pool)]
        pools = {pool.value: self._pool(pool, instances) for pool in self._addresses}
        return {
            "time": time.time(),
            "step_seconds": STEP_SECONDS,
            "pools": pools,
            "instances": instances,
            "failed_jobs": self._failed_jobs(),
            "hints": hints(self._config, pools, instances, self._blocks(), self._learned()),
            "steps": {pool.value: self._pool_steps(pool, since) for pool in self._addresses},
        }

    def _pool(self, pool: Pool, instances: list[Json]) -> Json:
        ours = [instance for instance in instances if instance["pool"] == pool]
        answering = [instance for instance in ours if instance["state"] in ("ready", "draining")]
        slow = pool is Pool.SLOW
        return {
            "instances": len([instance for instance in ours if instance["state"] != "stopped"]),
            "answering": len(answering),
            "active": sum(instance["active"] for instance in answering),
            "waiting": sum(instance["waiting"] for instance in answering),
            "running": sum(len(instance["running"]) for instance in answering),
            "workers": sum(instance["workers"] or 0 for instance in answering),
            # All have the same store.
            "accepted": next((instance["accepted"] for instance in answering if instance["accepted"]), {}),
            "places": len(answering) * self._config.slow_queue if slow else 0,
            **_figures(total(seen.minute() for seen in self._seen.values() if seen.pool is pool)),
        }

    def _pool_steps(self, pool: Pool, since: int) -> dict[int, Json]:
        ours = [seen for seen in self._seen.values() if seen.pool is pool]
        numbers = {number for seen in ours for number in seen.steps if number >= since}
        steps = {n: total(seen.steps[n] for seen in ours if n in seen.steps) for n in sorted(numbers)}
        return {
            number: {**_figures(step), "waiting": step.waiting, "running": step.running}
            for number, step in steps.items()
        }

    def _blocks(self) -> dict[str, float]:
        fast = (seen for seen in self._seen.values() if seen.pool is Pool.FAST)
        return total(step for seen in fast for step in seen.steps.values() if step.blocks).blocks

    def _learned(self) -> dict[str, LearnedRoute]:
        reports = [seen.report for seen in self._seen.values() if seen.report and not seen.error]
        learned = [route for report in reports for route in report.learned]
        return {route.route: route for route in sorted(learned, key=lambda one: one.left_seconds)}

    def _failed_jobs(self) -> list[Json]:
        """The accepted jobs that failed last, the newest first."""
        reports = [seen.report for seen in self._seen.values() if seen.report and not seen.error]
        failed = {one.job: one for report in reports for one in report.failed_jobs}
        newest = sorted(failed.values(), key=lambda one: -one.ended)[:MOST_FAILED]
        return [one.model_dump() for one in newest]

    def close(self) -> None:
        """Close the connections to the instances, and forget the instances."""
        for seen in self._seen.values():
            seen.disconnect("")
        self._seen.clear()

    async def watch(self) -> AsyncGenerator[str, None]:
        """Yield the content as JSON each second, the first time with the whole history."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        elif self._seen:
            queue.put_nowait(json.dumps(self.content()))
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)
            if not self._watchers and self._looking:
                self._looking.cancel()
                self._looking = None
                self.close()

    async def _look_on(self) -> None:
        since = 0
        while True:
            next_at = time.monotonic() + LOOK_SECONDS
            try:
                await self.look()
                text = json.dumps(self.content(since))
            except Exception:
                log.exception("cannot look at the instances")
            else:
                since = step_number() - 1
                for queue in self._watchers:
                    if not queue.full():  # a slow client misses an update
                        queue.put_nowait(text)
            await asyncio.sleep(max(0.1, next_at - time.monotonic()))

    async def _find(self) -> None:
        """Look up the pools' addresses, as nginx does. If the DNS does not answer, they do not change."""
        for pool in self._addresses:
            if pool not in self._lookups or self._lookups[pool].done():
                self._lookups[pool] = asyncio.create_task(self._resolve(pool))
        await asyncio.wait(self._lookups.values(), timeout=LOOK_SECONDS / 2)

    async def _resolve(self, pool: Pool) -> None:
        host = self._config.fast_host if pool is Pool.FAST else self._config.slow_host
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                self._addresses[pool] = []  # scaled to 0
        else:
            self._addresses[pool] = sorted({str(address[0]) for *_, address in found})

    async def _ask(self, seen: Seen) -> None:
        """Poll one instance over a connection that stays open. A draining instance sends a close frame.

        A bad report does not affect the other instances.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                if seen.connection is None:
                    seen.connection = await _connect(seen)
                await seen.connection.write_message(str(max(seen.steps, default=0)))
                answer = await seen.connection.read_message()
            if answer is None:
                raise WebSocketClosedError
            seen.update(answer, time.monotonic())
        except WebSocketClosedError:
            seen.leaves = seen.connection is not None and seen.connection.close_code == GOING_AWAY
            seen.disconnect("it closed the connection")
        except TimeoutError:
            seen.disconnect("no answer in time")
        except ValidationError as error:
            seen.disconnect(_what_is_wrong(error), "unreadable")
        except WebSocketError as error:
            seen.disconnect(str(error), "unreadable")
        except (HTTPError, OSError) as error:
            seen.disconnect(getattr(error, "strerror", None) or str(error))
        except Exception as error:
            log.exception("cannot look at %s at %s", seen.name, seen.address)
            seen.disconnect(type(error).__name__)


async def _connect(seen: Seen) -> WebSocketClientConnection:
    handshake = HTTPRequest(
        f"ws://{seen.address}:{seen.port}/-/status/instance",
        connect_timeout=LOOK_SECONDS,
        request_timeout=LOOK_SECONDS,
        streaming_callback=lambda _: None,  # discard the body of an answer that is not a WebSocket
    )
    return await websocket_connect(handshake, max_message_size=MAX_BYTES)


def _what_is_wrong(error: ValidationError) -> str:
    """The first error, such as ``active: Input should be a valid integer``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _by_pool(item: tuple[tuple[str, int], Seen]) -> tuple[str, str, int]:
    (address, port), seen = item
    return seen.pool, address, port


def _figures(step: Step) -> Json:
    return {
        "requests": step.requests,
        "errors": step.errors,
        "refused": step.refused,
        "p50_seconds": step.quantile(0.5),
        "p99_seconds": step.quantile(0.99),
        "lag_seconds": step.lag_seconds,
    }
