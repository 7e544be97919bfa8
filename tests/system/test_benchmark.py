"""What the benchmark measures of a system that is started here: whether its figures mean what they say."""

import pytest

from tests.bench import measure, systems
from tests.bench.options import Options

pytestmark = [pytest.mark.alone, pytest.mark.long]

OPTIONS = Options(half=1)


@pytest.mark.slow
def test_the_benchmark_sees_what_inline_work_does_and_workers_do_not() -> None:
    by_name = {system.name: system for system in systems.SYSTEMS}
    measured = {}
    for name in ("tornado", "tornado-worker"):
        system = by_name[name]
        with system.start() as running:
            measured[name] = measure.isolation(system, running, OPTIONS, 0)
    inline, worker = measured["tornado"], measured["tornado-worker"]
    assert inline["saturated_p99_seconds"] > worker["saturated_p99_seconds"]
