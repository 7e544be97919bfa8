"""The page says what to do."""

from typing import Any

import pytest

from slowpool.config import Config
from slowpool.status.advice import hints
from slowpool.status.report import LearnedRoute

POOL = {
    "instances": 2,
    "answering": 2,
    "waiting": 0,
    "running": 0,
    "workers": 2,
    "places": 16,
    "refused": 0,
    "errors": 0,
}
COMPOSE = Config(fast_host="fast", slow_host="slow")
LOCAL = Config()


def advice(config: Config = COMPOSE, **slow: Any) -> list[str]:
    return hints(config, {"fast": POOL, "slow": {**POOL, **slow}}, [], {}, {})


def instance(**values: Any) -> dict[str, Any]:
    return {
        "name": "fast:8001",
        "address": "10.0.0.7",
        "pool": "fast",
        "state": "ready",
        "silent_seconds": 0.2,
        "lost_seconds": None,
        "error": "",
        **values,
    }


def test_nothing_is_said_when_all_is_well() -> None:
    assert advice() == []
    assert advice(running=2, waiting=15) == []


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (COMPOSE, "docker compose up -d --scale slow=2"),
        (LOCAL, "SLOW_PROCESSES=4 ./deploy/local"),
        (Config(fast_host="localhost"), "SLOW_PROCESSES=4 ./deploy/local"),
        (Config(fast_host="tasks.fast"), "Scale it where"),
    ],
)
def test_a_full_pool_is_to_be_scaled(config: Config, command: str) -> None:
    (hint,) = advice(config, running=2, waiting=16, refused=7)
    assert hint.startswith("The slow pool is full: 7 requests were refused")
    assert command in hint


def test_one_that_was_full_a_moment_ago_is_still_named() -> None:
    (hint,) = advice(refused=1)
    assert hint.startswith("The slow pool was full: 1 requests were refused")


def test_a_pool_without_instances_is_to_be_started() -> None:
    (hint,) = advice(instances=0, answering=0, workers=0, places=0)
    assert hint == "No instance of the slow pool answers: start one with docker compose up -d --scale slow=1"


def test_an_instance_that_is_silent_or_was_lost_is_named_with_where_to_look() -> None:
    pools = {"fast": POOL, "slow": POOL}
    silent = instance(state="no answer", silent_seconds=4.2, error="no answer in time")
    lost = instance(name="fast:8002", lost_seconds=12.0)
    long_ago = instance(name="fast:8003", lost_seconds=100.0)
    first, second = hints(COMPOSE, pools, [silent, lost, long_ago], {}, {})
    assert first.startswith("fast:8001 at 10.0.0.7 has not answered for 4 s (no answer in time).")
    assert second.startswith("fast:8002 at 10.0.0.7 died and was restarted 12 s ago;")
    assert "docker compose logs fast" in first
    assert "docker compose logs fast" in second


def test_a_route_that_blocks_belongs_in_the_slow_pool() -> None:
    (hint,) = hints(LOCAL, {"fast": POOL, "slow": POOL}, [], {"/report": 1.234}, {})
    assert hint.startswith("/report blocked its fast instance for 1.23 s")
    assert "slow pool" in hint


def test_a_learned_route_is_named_with_its_line_and_what_to_write() -> None:
    line = "shop/reports.py:12, in build"
    learned = LearnedRoute(route="/report", line=line, blocked_seconds=1.2, left_seconds=540.0)
    (hint,) = hints(LOCAL, {"fast": POOL, "slow": POOL}, [], {"/report": 1.234}, {"/report": learned})
    assert f"/report blocked its fast instance for 1.23 s, at {line}" in hint
    assert "slow pool for the next 540 s" in hint
    assert "await slowpool.run(" in hint


def test_failures_are_counted() -> None:
    (hint,) = hints(LOCAL, {"fast": {**POOL, "errors": 3}, "slow": POOL}, [], {}, {})
    assert hint.startswith("3 requests of the fast pool failed in the last minute")
