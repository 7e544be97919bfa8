"""State, and Runtime: the state that the parts of one instance share."""

import asyncio
import secrets
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from slowpool.config import Config, Instance, Pool, supervised_dir
from slowpool.observe.events import Events
from slowpool.observe.heartbeat import Heartbeat
from slowpool.observe.inherited import Inherited
from slowpool.observe.learned import LearnedRoutes
from slowpool.observe.metrics import Metrics
from slowpool.observe.requests import RequestTracker
from slowpool.workers.asks import Asks
from slowpool.workers.job import Job
from slowpool.workers.pool import WorkerPool

GOING_AWAY = 1001
"""WebSocket close code of an endpoint that goes away (RFC 6455, 7.4.1)."""

draining = asyncio.Event()
"""Set when this process's instance begins to drain: a long stream should then end by itself."""

serving: "Runtime | None" = None
"""The instance that this process runs."""


class State(Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Acceptor(Protocol):
    """Accepts requests whose answers are fetched later: slowpool.jobs."""

    async def accept(self, exchange: Any) -> None:
        """Accept a request whose handler is about to run a job, if it should be."""

    async def cancel_for_operator(self, job_id: str) -> str:
        """Cancel an accepted job, by its id or that of a job that runs for it here; returns its id.

        Raises RequestError.
        """


class Runtime:
    """One instance while it runs.

    ``system`` is the application with the system routes. ``find_job_handler`` returns the handler of a
    request about an accepted job, with its route. ``rolling`` is the last roll of a pool that it has begun.
    """

    system: Application
    acceptor: Acceptor | None = None
    find_job_handler: Callable[[HTTPServerRequest], tuple[HTTPMessageDelegate, str] | None] | None = None
    rolling: asyncio.Task[bool] | None = None

    def __init__(self, config: Config, instance: Instance) -> None:
        self.config = config
        self.instance = instance
        self.name = str(instance)
        self.state = State.STARTING
        self.started_at = time.time()
        self.heartbeat = Heartbeat(supervised_dir(), instance.port)
        self.metrics = Metrics(instance.pool, config.slow_timeout_seconds)
        self.process_id = secrets.token_hex(8)
        self.inherited = Inherited()  # from instances that have ended; replaced when more comes
        self.requests = RequestTracker(self.metrics, self.heartbeat)
        self.learned = LearnedRoutes(config.slow_learn_seconds if instance.pool is Pool.FAST else 0)
        self.events = Events(self.name)
        self.workers = WorkerPool(config, self.metrics, self.events)
        self.asks = Asks(self.workers)
        self.websockets: dict[WebSocketHandler, set[Job[Any]]] = {}  # the open ones, and their jobs
        self.streams: set[Callable[[], None]] = set()  # each ends a streamed answer
        self.accepted_jobs: dict[str, int] = {}  # those in the store, by state
        self.failed_jobs: list[dict[str, Any]] = []  # the last of them
        self.metrics.watch(lambda: self.requests.active, self.workers.waiting_jobs, self.workers.running_jobs)

    def close_websockets(self) -> None:
        """Send every open WebSocket without a job a close frame; each closes within 5 s."""
        for handler, jobs in list(self.websockets.items()):
            if not jobs and handler.ws_connection:  # not the handler's own close, which may be another
                WebSocketHandler.close(handler, GOING_AWAY, "going away")
