"""What the benchmark measures of a system that is started here: whether its figures mean what they say."""

import pytest

from tests.bench import measure, systems
from tests.bench.measure import Options

OPTIONS = Options(half=1, fault=3)


@pytest.mark.slow
def test_the_benchmark_sees_what_inline_work_does_and_workers_do_not() -> None:
    by_name = {system.name: system for system in systems.SYSTEMS}
    measured = {}
    for name in ("tornado", "tornado-worker"):
        system = by_name[name]
        with system.start() as running:
            isolation = measure.isolation(system, running, OPTIONS, 0)
            faults = measure.faults(system, running, OPTIONS, 0)
        measured[name] = {**isolation, **faults}
    inline, worker = measured["tornado"], measured["tornado-worker"]
    # Each slow request holds up the loop for about a second, whatever the machine does meanwhile.
    assert inline["saturated_p99_seconds"] > 0.5 > worker["saturated_p99_seconds"]
    assert worker["worker_fast_failed"] == 0
    assert "worker_fast_failed" not in inline  # it has no workers
    for figures in (inline, worker):  # the one process is killed, and nobody starts it again
        assert 0 < figures["instance_fast_failed"] < figures["instance_fast_sent"]
