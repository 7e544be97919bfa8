"""The simulation behind deploy/README.md's figures, against the real system; its long form writes them:
``python -m tests.bench.capacity real``."""

import pytest

from tests.bench.capacity import real
from tests.bench.simulate import Pool

pytestmark = pytest.mark.alone


def test_the_real_system_waits_and_refuses_as_simulated(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--capacity"):
        pytest.skip("only with --capacity: it compares waiting times, for which this machine must be quiet")
    pool = Pool(instances=2, workers=5, queue=2, timeout_seconds=60)
    figures = dict(real(pool, (0.8, 1.5), seconds=4, mean_seconds=0.4))
    for row in figures.values():
        simulated = row["simulated_longer"]  # the very same jobs, as long as they took on this machine
        assert row["jobs"] == simulated["jobs"]
        assert row["mean_wait"] == pytest.approx(simulated["mean_wait"], rel=0.4, abs=0.04)
        assert row["refused"] == pytest.approx(simulated["refused"], abs=0.1)
    assert figures["real/5/2/1.5"]["refused"] > 0.1
