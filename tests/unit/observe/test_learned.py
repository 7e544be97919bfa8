"""The routes that go to the slow pool for a while."""

import pytest

from slowpool.observe.learned import LearnedRoutes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, for the test to change."""
    now = [1000.0]
    monkeypatch.setattr("slowpool.observe.learned.time.monotonic", lambda: now[0])
    return now


def test_a_route_that_blocked_is_learned_until_it_was_not_seen_to_block_for_so_long(
    clock: list[float],
) -> None:
    routes = LearnedRoutes(10)
    assert "/report/{}" not in routes
    assert routes.add("/report/{}", 0.5, "shop.py:7, in build")
    assert "/report/{}" in routes
    assert "/other" not in routes
    clock[0] += 9
    assert routes.add("/report/{}", 1.5, "shop.py:9, in build")
    clock[0] += 9
    assert {route: (one.seconds, one.line) for route, one in routes.current().items()} == {
        "/report/{}": (1.5, "shop.py:9, in build")
    }
    clock[0] += 1
    assert "/report/{}" not in routes
    assert routes.current() == {}


def test_without_a_time_nothing_is_learned() -> None:
    routes = LearnedRoutes(0)
    assert not routes.add("/report/{}", 0.5, "shop.py:7, in build")
    assert "/report/{}" not in routes


def test_what_came_by_no_route_is_not_learned() -> None:
    routes = LearnedRoutes(10)
    assert not routes.add("", 0.5, "shop.py:7, in build")
    assert "" not in routes
