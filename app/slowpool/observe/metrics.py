"""Every metric of an instance, defined in one place for Prometheus to scrape from ``/-/metrics``.

The names of what any HTTP server has are OpenTelemetry's semantic conventions for HTTP, written as its
Prometheus exporter writes them: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

from collections.abc import Callable, Mapping, Sized
from itertools import count, takewhile

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from slowpool.config import Pool
from slowpool.observe.durations import Durations
from slowpool.observe.history import History

OUTCOMES = ("ok", "failed", "timeout", "cancelled", "refused", "died")
"""What becomes of a job: ``failed`` is a task that raised, ``died`` a worker that was lost."""

LAG_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one instance, and its History of the last ten minutes; all times in seconds."""

    def __init__(self, pool: Pool = Pool.ALL, slow_timeout_seconds: float = 60) -> None:
        self.registry = registry = CollectorRegistry()
        self.history = History()
        self._load: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._pool = pool.value
        ProcessCollector(registry=registry)
        buckets = _buckets(slow_timeout_seconds)
        self._requests = Durations(
            "http_server_request_duration_seconds",
            "From a request's arrival to its answer.",
            ["http_request_method", "http_route", "http_response_status_code", "pool"],
            buckets,
            registry,
        )
        self._active = Gauge(
            "http_server_active_requests", "Requests that are being answered.", ["pool"], registry=registry
        ).labels(self._pool)
        self._waiting = Gauge("slow_jobs_waiting", "Jobs that wait for a worker.", registry=registry)
        self._running = Gauge("slow_jobs_running", "Jobs that run.", registry=registry)
        jobs = Counter("slow_jobs_total", "Jobs that have ended.", ["outcome"], registry=registry)
        self._jobs = {outcome: jobs.labels(outcome) for outcome in OUTCOMES}
        self.job_wait = Histogram(
            "slow_job_wait_seconds",
            "From a job's arrival to its start.",
            buckets=buckets,
            registry=registry,
        )
        self.job_run = Histogram(
            "slow_job_run_seconds", "From a job's start to its end.", buckets=buckets, registry=registry
        )
        self.worker_restarts = 0
        self._worker_restarts = Counter(
            "slow_worker_restarts_total", "Workers that took the place of another.", registry=registry
        )
        self._lag = Histogram(
            "event_loop_lag_seconds",
            "By how much the event loop was late for what was due, measured 20 times a second.",
            buckets=LAG_BUCKETS_SECONDS,
            registry=registry,
        )
        self._handed_over = Counter(
            "requests_handed_over_total",
            "Requests that a fast instance handed over to the slow pool.",
            ["http_route"],
            registry=registry,
        )
        self._asks = Counter(
            "slow_asks_total",
            "Requests for which nginx asked the slow instances for an idle worker or a place in a queue.",
            ["ask"],
            registry=registry,
        )
        self._accepted = Gauge(
            "accepted_jobs",
            "Accepted jobs in the store, which the slow instances share: all of them count the same.",
            ["state"],
            registry=registry,
        )
        self._oldest_accepted = Gauge(
            "accepted_jobs_oldest_waiting_timestamp_seconds",
            "When the accepted job arrived that waits longest; 0 when none waits.",
            registry=registry,
        )
        self._blocked = Histogram(
            "event_loop_blocked_seconds",
            "How long a handler held up all other requests, where that was over FAST_BLOCK_BUDGET_SECONDS.",
            ["http_route"],
            buckets=LAG_BUCKETS_SECONDS,
            registry=registry,
        )

    def watch(self, active: Callable[[], int], waiting: Sized, running: Sized) -> None:
        """Register what is counted at each scrape: the requests, and the jobs that wait and run."""
        self._active.set_function(active)
        self._waiting.set_function(lambda: len(waiting))
        self._running.set_function(lambda: len(running))
        self._load = lambda: (len(waiting), len(running))

    def request(
        self, method: str, route: str, status: int, seconds: float, job_seconds: Mapping[str, float]
    ) -> None:
        """A request has been answered; ``job_seconds`` as for History.add_request."""
        self._requests.observe((method, route, status, self._pool), seconds)
        self.history.add_request(route, status, seconds, job_seconds)

    def handed_over(self, route: str) -> None:
        """A request has been handed over to the slow pool."""
        self._handed_over.labels(route).inc()
        self.history.add_hand_over(route)

    def asked(self, ask: str) -> None:
        """nginx asks the slow instances which one takes a request."""
        self._asks.labels(ask).inc()

    def job(self, outcome: str) -> None:
        """A job has ended, or was refused: one of OUTCOMES."""
        self._jobs[outcome].inc()

    def accepted_jobs(self, by_state: Mapping[str, int], oldest_waiting: float | None) -> None:
        """Note what is in the store; the time is in seconds since the epoch."""
        for state, jobs in by_state.items():
            self._accepted.labels(state).set(jobs)
        self._oldest_accepted.set(oldest_waiting or 0)

    def worker_restarted(self) -> None:
        """A worker has taken the place of another."""
        self.worker_restarts += 1
        self._worker_restarts.inc()

    def sample(self, lag_seconds: float) -> None:
        """Record by how much the event loop is late."""
        self._lag.observe(lag_seconds)
        self.history.add_sample(lag_seconds, *self._load())

    def blocked(self, route: str, seconds: float) -> None:
        """A handler has blocked the loop."""
        self._blocked.labels(route).observe(seconds)
        self.history.add_block(route, seconds)


def _buckets(longest_seconds: float) -> list[float]:
    """1, 2.5, 5, 10 ms and so on, to the first bound that is past the longest time."""
    bounds = (digit * 10**exponent / 1000 for exponent in count() for digit in (1, 2.5, 5))
    below = list(takewhile(lambda bound: bound <= longest_seconds, bounds))
    return [*below, below[-1] * 2.5] if below else [0.001]
