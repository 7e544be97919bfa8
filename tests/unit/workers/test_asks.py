"""When a slow instance has nginx ask the others."""

import time
from dataclasses import dataclass
from typing import cast

import pytest

from slowpool.workers.asks import IN_VAIN_SECONDS, Asks
from slowpool.workers.pool import WorkerPool

ALL = ["idle", "place"]


@dataclass
class Workers:
    """As much of a pool as Asks looks at."""

    has_idle_worker: bool = False
    has_room: bool = True


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def asks(workers: Workers) -> Asks:
    asks = Asks(cast(WorkerPool, workers))
    asks.add("/slow")
    return asks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_only_a_route_that_runs_jobs_is_asked_for(asks: Asks) -> None:
    assert asks.before_handler("/other", ALL) == ""
    assert asks.before_handler("/slow", ALL) == "idle"


def test_an_idle_worker_makes_an_ask_needless(asks: Asks, workers: Workers) -> None:
    workers.has_idle_worker = True
    assert asks.before_handler("/slow", ALL) == asks.before_job(ALL) == ""


@pytest.mark.parametrize(
    ("allowed", "with_room", "full"),
    [
        (ALL, "idle", "place"),
        (["idle"], "idle", ""),
        (["place"], "", "place"),
        (["none"], "", ""),
        ([], "", ""),
    ],
)
def test_an_instance_with_room_asks_for_an_idle_worker_and_a_full_one_for_a_place(
    asks: Asks, workers: Workers, allowed: list[str], with_room: str, full: str
) -> None:
    assert asks.before_handler("/slow", allowed) == with_room
    assert asks.before_job(allowed) == ""
    workers.has_room = False
    assert asks.before_handler("/slow", allowed) == asks.before_job(allowed) == full


@pytest.mark.parametrize(("ask", "other", "has_room"), [("idle", "place", True), ("place", "idle", False)])
def test_after_an_ask_in_vain_none_for_the_same_is_made_for_a_moment(
    asks: Asks, workers: Workers, clock: list[float], ask: str, other: str, has_room: bool
) -> None:
    workers.has_room = has_room
    assert asks.before_handler("/slow", [other]) == ""  # it is back
    assert asks.before_handler("/slow", ALL) == ""
    workers.has_room = not has_room
    assert asks.before_handler("/slow", ALL) == other
    workers.has_room = has_room
    clock[0] += IN_VAIN_SECONDS
    assert asks.before_handler("/slow", ALL) == ask


def test_a_request_that_nginx_cannot_send_on_says_nothing_about_the_others(asks: Asks) -> None:
    assert asks.before_handler("/slow", []) == ""
    assert asks.before_handler("/slow", ALL) == "idle"
