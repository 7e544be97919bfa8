"""What the tests of observe share."""

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, for the test to change."""
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now
