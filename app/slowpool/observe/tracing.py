"""Optional OpenTelemetry traces; without an endpoint nothing of OpenTelemetry is imported."""

import os
import time
from typing import Any

from slowpool.config import Config, Instance
from slowpool.errors import ConfigError

_tracer: Any = None

EXCLUDED = "^/-/"
"""The system routes are not traced."""


def set_up(config: Config, instance: Instance) -> None:
    """Trace every request from now on, if the setting says where to send it.

    Raises ConfigError when the packages of the extra are not installed.
    """
    global _tracer
    if not config.otel_exporter_otlp_endpoint:
        return
    os.environ.setdefault("OTEL_PYTHON_TORNADO_EXCLUDED_URLS", EXCLUDED)
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.tornado import TornadoInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set and there is no module {error.name!r}; "
            "pip install -r deploy/requirements/otel.lock"
        ) from error
    names = {"service.name": f"slowpool-{instance.pool}", "service.instance.id": str(instance)}
    provider = TracerProvider(resource=Resource.create(names))
    exporter = OTLPSpanExporter(endpoint=f"{config.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    TornadoInstrumentor().instrument()
    _tracer = trace.get_tracer("slowpool")


def job(submitted_at: float, started_at: float, run_seconds: float, worker_pid: int) -> None:
    """Add a job that has ended to the trace of its request; times are on the monotonic clock."""
    if _tracer is None:
        return
    to_clock = time.time() - time.monotonic()
    submitted_at, started_at = submitted_at + to_clock, started_at + to_clock
    times = {
        "slow.queue": (submitted_at, started_at),
        "slow.worker": (started_at, started_at + run_seconds),
    }
    for name, (start, end) in times.items():
        span = _tracer.start_span(name, start_time=int(start * 1e9))
        span.set_attribute("worker.pid", worker_pid)
        span.end(end_time=int(end * 1e9))
