"""The fault schedule in its short form; ``tests/bench/faults`` runs it for hours."""

import pytest

from tests.support.engine import needs_engine
from tests.support.fault_schedule import run
from tests.support.targets import ENVIRONMENTS

pytestmark = pytest.mark.alone

SECONDS = {"local": 30, "docker": 20}

WITHOUT = {
    "local": {"SIGSTOP"},
    "docker": ENVIRONMENTS["docker"].events.keys() - {"roll", "docker kill"},
}
"""SIGSTOP waits for the watchdog, which has a test of its own; the others are much as they are locally."""

LONGEST_SECONDS = 3.0
"""nginx tries for 2 s to give a request to an instance; the rest is for a busy machine. What is measured
where nothing else runs is far less, and is in deploy/README.md."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("environment", ["local", pytest.param("docker", marks=needs_engine)])
def test_no_request_fails_that_need_not(environment: str) -> None:
    findings = run(environment, SECONDS[environment], seed=5, without=WITHOUT[environment])
    assert not findings.wrong
    assert findings.requests > 100 * SECONDS[environment]
    for row in findings.rows.values():
        assert row.event == "full slow pool" or row.refused == 0, row
        assert row.event.startswith("SIGSTOP") or row.longest_seconds < LONGEST_SECONDS, row
