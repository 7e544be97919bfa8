"""Tracing is optional, and the spans of a job have their true times."""

import subprocess
import sys
import time

import pytest
import uvloop
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from slowpool.observe import tracing
from tests.support.basics import ROOT, environment


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    script = (
        "import sys; from slowpool import __main__; from slowpool.observe import tracing; "
        "from slowpool.config import Config, Instance, Pool; "
        "tracing.set_up(Config(), Instance(Pool.FAST, 8001)); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, cwd=ROOT, env=environment({}), text=True) == "[]\n"


def test_the_spans_of_a_job_end_before_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))

    async def end_jobs() -> None:  # the time of uvloop's loops is in whole milliseconds
        for _ in range(20):
            ended_at = time.monotonic()
            tracing.job(ended_at - 3, ended_at - 1, 1, 7)
            queue, worker = exporter.get_finished_spans()[-2:]
            times = [queue.start_time, queue.end_time, worker.start_time, worker.end_time, time.time_ns()]
            assert times == sorted(map(int, filter(None, times)))
            assert times[1] == times[2]

    uvloop.run(end_jobs())
