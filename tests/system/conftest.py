"""Systems for the tests to share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import chromium
from tests.support.system import System, wait_until_whole

expect.set_options(timeout=30_000)


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    """The system with the demo, as a newcomer has it; no test harms it."""
    with System() as system:
        yield system


@pytest.fixture(scope="package")
def controlled() -> Iterator[System]:
    with System(APP="tests.apps.controlled:make_app", SLOW_PER_CLIENT=0) as system:
        yield system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; not for the session, since asyncio.run() does not work while one is open."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def sturdy(controlled: System) -> System:
    """The system with ``tests.apps.controlled``, whole again for each test, which may harm it."""
    wait_until_whole(controlled, fast="/echo", slow="/slow/echo")
    return controlled


@pytest.fixture(scope="module", params=[0, 50], ids=["direct", "counted"])
def connections(request: pytest.FixtureRequest) -> int:
    """CLIENT_CONNECTIONS: with it a request that is handed over takes another way in nginx."""
    return int(request.param)
