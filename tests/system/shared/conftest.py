"""The two systems that these tests share; all of them run in one process, so that there are no more."""

from collections.abc import Iterator

import pytest

from tests.support.system import System, wait_until_whole


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    """The system with the demo, as a newcomer has it; no test harms it."""
    with System() as system:
        yield system


@pytest.fixture(scope="package")
def controlled() -> Iterator[System]:
    with System(APP="tests.apps.controlled:make_app", SLOW_PER_CLIENT=0) as system:
        yield system


@pytest.fixture
def sturdy(controlled: System) -> System:
    """The system with ``tests.apps.controlled``, whole again for each test, which may harm it."""
    wait_until_whole(controlled, fast="/echo", slow="/slow/echo")
    return controlled
