"""The fault schedule in its short form; ``tests/bench/faults`` runs it for hours."""

import pytest

from tests.support.engine import needs_engine
from tests.support.fault_schedule import ACCEPTED, BETWEEN, run
from tests.support.targets import ENVIRONMENTS

# In seconds; each event happens once, however long that takes.
SECONDS = {"local": 10, "docker": 10}

REQUESTS_PER_SECOND = 50
"""Far fewer than two cores can serve."""

EVENTS = {
    "local": {"reload nginx", "kill -9 instance", "kill -9 worker"},
    "docker": {"scale up", "docker kill", "roll"},
}
"""The others have tests of their own."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("environment", ["local", pytest.param("docker", marks=needs_engine)])
def test_no_request_fails_that_need_not(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENVIRONMENTS[environment], "requests_per_second", REQUESTS_PER_SECOND)
    without = ENVIRONMENTS[environment].events.keys() - EVENTS[environment]
    findings = run(environment, SECONDS[environment], seed=5, without=without)
    assert not findings.wrong
    for row in findings.rows.values():
        assert row.event == BETWEEN or row.times >= 1, row
        assert row.event == BETWEEN or row.answered > 10, row
        assert row.event == ACCEPTED or row.refused == 0, row
