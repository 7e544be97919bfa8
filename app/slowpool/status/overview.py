"""Overview: combines the reports of all instances of both pools."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import ValidationError
from tornado.httpclient import HTTPError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from slowpool.config import Config, Instance, Pool
from slowpool.instance import GOING_AWAY
from slowpool.jobs.record import MOST_FAILED
from slowpool.observe.events import Events
from slowpool.observe.history import STEP_SECONDS, step_number, total
from slowpool.observe.peers import Peers
from slowpool.observe.untrusted import what_is_wrong
from slowpool.status.advice import hints
from slowpool.status.recent_routes import RecentRoutes
from slowpool.status.report import MAX_BYTES, Failure, LearnedRoute
from slowpool.status.seen import Seen
from slowpool.status.steps import Steps, figures
from slowpool.workers.failures import MOST_FAILURES

log = logging.getLogger("slowpool")

LOOK_SECONDS = 1.0
"""How often instances are polled while anyone watches, and how long one has to answer."""

GONE_FOR_SECONDS = 60.0
"""How long an instance is shown after its last answer."""

Json = dict[str, Any]


class Overview:
    """Polls all instances while anyone watches, and sends the result to every watcher.

    Of each instance it gets the history from step ``since`` on.
    """

    def __init__(
        self, config: Config, events: Events | None = None, own: Instance | None = None, *, since: int = 0
    ) -> None:
        self.peers = Peers(config, own)
        self._since = since
        self._config = config
        self._events = events or Events()
        self._own = own
        self._seen: dict[tuple[str, int], Seen] = {}
        self._routes = RecentRoutes()
        self._failures: dict[str, Failure] = {}  # by their jobs
        self._watchers: set[asyncio.Queue[str]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Poll every instance; returns when all have answered or timed out."""
        now = time.monotonic()
        await self.peers.find(LOOK_SECONDS / 2)
        for peer in self.peers.all():
            self._seen.setdefault((peer.address, peer.port), Seen(*peer, now))
        for key, seen in list(self._seen.items()):
            known = seen.address in self.peers.addresses[seen.pool]
            if not known and now - max(seen.answered_at, seen.first_looked_at) > GONE_FOR_SECONDS:
                del self._seen[key]
        await asyncio.gather(*map(self._ask, self._seen.values()))

    def instances(self) -> list[Json]:
        """The instances with their jobs, as they were seen last."""
        now = time.monotonic()
        return [seen.content(now) for _, seen in sorted(self._seen.items(), key=_by_pool)]

    def content(self, since: int = 0, known_events: int = -1, *, once_per_step: bool = True) -> Json:
        """The figures of the last minute, the steps from ``since`` on, and what is sent once per step.

        The events too, if the receiver does not have them: ``known_events`` is the version that it has.
        """
        instances = self.instances()
        pools = {pool.value: self._pool(pool, instances) for pool in self.peers.addresses}
        return {
            "time": time.time(),
            **({"served_by": self._served_by(self._own)} if self._own else {}),
            **({"events": self._events.newest()} if self._events.version != known_events else {}),
            "step_seconds": STEP_SECONDS,
            "pools": pools,
            "instances": instances,
            "failed_jobs": self._failed_jobs(),
            "hints": hints(self._config, pools, instances, self._blocks(), self._learned()),
            "steps": {pool.value: self._pool_steps(pool, since) for pool in self.peers.addresses},
            **(self._once_per_step() if once_per_step else {}),
        }

    def _once_per_step(self) -> Json:
        newest = sorted(self._failures.values(), key=lambda failure: -failure.ended)[:MOST_FAILURES]
        self._failures = {failure.job: failure for failure in newest}
        return {"routes": self._routes.rows(), "failures": [failure.model_dump() for failure in newest]}

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
            **figures(total(steps.minute() for steps in self._counted(pool))),
        }

    def _served_by(self, own: Instance) -> str:
        """The instance that this is, such as ``fast:8001 at 10.0.0.2``."""
        address = self.peers.own_address
        return f"{own.pool}:{own.port}{f' at {address}' if address else ''}"

    def _counted(self, pool: Pool) -> list[Steps]:
        """The steps of each process of a pool, those that were left to it included, each once."""
        left = self._left()
        return [
            steps
            for seen in self._seen.values()
            if seen.pool is pool
            for process_id, process in seen.processes.items()
            if process_id not in left
            for steps in (process.steps, process.inherited)
        ]

    def _left(self) -> set[str]:
        """The processes whose steps another one has by now."""
        processes = [process for seen in self._seen.values() for process in seen.processes.values()]
        return {process_id for process in processes for process_id in process.inherited_from}

    def _pool_steps(self, pool: Pool, since: int) -> dict[int, Json]:
        counted = [steps.by_number for steps in self._counted(pool)]
        numbers = {number for steps in counted for number in steps if number >= since}
        steps = {n: total(steps[n] for steps in counted if n in steps) for n in sorted(numbers)}
        return {
            number: {**figures(step), "waiting": step.waiting, "running": step.running}
            for number, step in steps.items()
        }

    def _blocks(self) -> dict[str, float]:
        counted = self._counted(Pool.FAST)
        return total(step for steps in counted for step in steps.by_number.values() if step.blocks).blocks

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
        self.peers.close()
        for seen in self._seen.values():
            seen.disconnect("")
        self._seen.clear()
        self._routes = RecentRoutes()

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
        since = last = 0
        known_events = -1
        left: set[str] = set()
        behind: set[asyncio.Queue[str]] = set()  # slow clients, which have missed an update
        while True:
            next_at = time.monotonic() + LOOK_SECONDS
            number = step_number()  # by now instances have all of the step before
            try:
                await self.look()
                before, left = left, self._left()
                first = since if left == before else 0
                text = json.dumps(self.content(first, known_events, once_per_step=number != last))
                whole = json.dumps(self.content()) if behind else text
            except Exception:
                log.exception("cannot look at the instances")
            else:
                since, last, known_events = step_number() - 1, number, self._events.version
                missed = {queue for queue in self._watchers if queue.full()}
                for queue in self._watchers - missed:
                    queue.put_nowait(whole if queue in behind else text)
                behind = missed
            await asyncio.sleep(max(0.1, next_at - time.monotonic()))

    def take(self, seen: Seen, answer: str | bytes) -> None:
        """Store the answer of an instance.

        Raises ValidationError, and changes nothing, when it is no report.
        """
        report = seen.update(answer, time.monotonic())
        self._failures |= {failure.job: failure for failure in report.failures}
        seen.routes_until = self._routes.add(seen.pool, report.routes, seen.routes_until)

    async def _ask(self, seen: Seen) -> None:
        """Poll one instance over a connection that stays open. A draining instance sends a close frame.

        A bad report does not affect the other instances.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                if seen.connection is None:
                    seen.connection = await _connect(seen)
                await seen.connection.write_message(str(seen.last_step or self._since))
                answer = await seen.connection.read_message()
            if answer is None:
                raise WebSocketClosedError
            self.take(seen, answer)
        except WebSocketClosedError:
            seen.leaves = seen.connection is not None and seen.connection.close_code == GOING_AWAY
            seen.disconnect("it closed the connection")
        except TimeoutError:
            seen.disconnect("no answer in time")
        except ValidationError as error:
            seen.disconnect(what_is_wrong(error), "unreadable")
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


def _by_pool(item: tuple[tuple[str, int], Seen]) -> tuple[str, str, int]:
    (address, port), seen = item
    return seen.pool, address, port
