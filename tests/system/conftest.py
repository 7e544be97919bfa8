"""Fixtures for the tests of whole systems."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import chromium

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; not for the session, since asyncio.run() does not work while one is open."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", params=[0, 50], ids=["direct", "counted"])
def connections(request: pytest.FixtureRequest) -> int:
    """CLIENT_CONNECTIONS: with it a request that is handed over takes another way in nginx."""
    return int(request.param)
