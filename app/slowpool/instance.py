"""State, and Runtime: the state that the parts of one instance share."""

import time
from enum import Enum

from tornado.websocket import WebSocketHandler

from slowpool.config import Config, Instance
from slowpool.observe.metrics import Metrics
from slowpool.observe.requests import RequestTracker
from slowpool.workers.pool import WorkerPool

GOING_AWAY = 1001
"""WebSocket close code of an endpoint that goes away (RFC 6455, 7.4.1)."""


class State(Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Runtime:
    """One instance while it runs."""

    def __init__(self, config: Config, instance: Instance) -> None:
        self.config = config
        self.instance = instance
        self.state = State.STARTING
        self.started_at = time.time()
        self.metrics = Metrics(instance.pool, config.slow_timeout_seconds)
        self.requests = RequestTracker(self.metrics)
        self.workers = WorkerPool(config, self.metrics)
        self.websockets: set[WebSocketHandler] = set()
        self.metrics.watch(lambda: self.requests.active, self.workers.waiting_jobs, self.workers.running_jobs)

    def close_websockets(self) -> None:
        """Send every open WebSocket a close frame; each closes within 5 s."""
        for websocket in list(self.websockets):
            websocket.close(GOING_AWAY, "going away")
