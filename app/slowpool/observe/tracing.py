"""Optional OpenTelemetry traces: nothing is imported, and nothing paid, without a place to send them to."""

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from slowpool.config import Config, Instance
from slowpool.errors import ConfigError

if TYPE_CHECKING:
    from slowpool.workers.job import Job

_tracer: Any = None

EXCLUDED = "livez,readyz,metrics,status"
"""The system's own routes, which are not traced."""


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


def job(ended: "Job[Any]") -> None:
    """Add a job that has ended to the trace of its request: its time in the queue, and in the worker."""
    if _tracer is None:
        return
    to_clock = time.time() - asyncio.get_running_loop().time()
    started_at = ended.started_at + to_clock
    times = {
        "slow.queue": (ended.submitted_at + to_clock, started_at),
        "slow.worker": (started_at, started_at + ended.run_seconds),
    }
    for name, (start, end) in times.items():
        span = _tracer.start_span(name, start_time=int(start * 1e9))
        span.set_attribute("worker.pid", ended.worker_pid)
        span.end(end_time=int(end * 1e9))
