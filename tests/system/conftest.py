"""Fixtures for the tests of whole systems."""

import pytest


@pytest.fixture(scope="module", params=[0, 50], ids=["direct", "counted"])
def connections(request: pytest.FixtureRequest) -> int:
    """CLIENT_CONNECTIONS: with it a request that is handed over takes another way in nginx."""
    return int(request.param)
