"""Systems for the tests to share."""

from collections.abc import Iterator

import pytest

from tests.client import request
from tests.e2e.system import System
from tests.support import wait_until


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The system with the demo, as a newcomer has it; no test harms it."""
    with System() as system:
        yield system


@pytest.fixture(scope="session")
def controlled() -> Iterator[System]:
    """The system with ``tests.apps.controlled``; no test harms it."""
    with System(ROUTES="tests.apps.controlled") as system:
        yield system


@pytest.fixture(scope="session")
def harmed() -> Iterator[System]:
    with System(ROUTES="tests.apps.controlled") as system:
        yield system


@pytest.fixture
def sturdy(harmed: System) -> System:
    """A system to harm: whole again for each test, which may kill what supervisor starts again."""

    def is_whole() -> bool:
        probes = [request(port, "/readyz") for pool in ("fast", "slow") for port in harmed.instances(pool)]
        return all(probe.status == 200 for probe in probes)

    wait_until(is_whole)
    for pool, target in (("fast", "/echo"), ("slow", "/slow/echo")):
        wait_until(lambda: served_by_all(harmed, pool, target))  # noqa: B023  # waits here
    return harmed


def served_by_all(system: System, pool: str, target: str) -> bool:
    """Whether nginx gives requests to each instance of a pool."""
    ports = system.instances(pool)
    seen = {system.get(target).headers["X-Served-By"] for _ in range(4 * len(ports))}
    return seen == {f"{pool}:{port}" for port in ports}
