"""The team's application of tests/system/test_team.py in containers."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.compose import Compose
from tests.support.engine import needs_engine
from tests.support.team import CHECKS, SETTINGS

pytestmark = [needs_engine, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The system with one replica of each pool, and ``tests`` in its containers."""
    with Compose("tests/deploy/health.yml:tests/deploy/test_routes.yml", **SETTINGS) as project:
        project("up", "--build", "--detach", "--wait", "--wait-timeout=200")
        yield f"http://127.0.0.1:{project.port}"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_application_does_what_it_promises(base: str, check: Callable[[str], None]) -> None:
    check(base)
