"""A route that has blocked a fast instance is handed over before its handler runs."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request
from tests.support.metrics import value
from tests.support.process import Instance
from tests.support.websocket import websocket

ANYWHERE = "tests.apps.anywhere:make_app"
UNUSUAL = "tests.apps.unusual:make_app"
BLOCKS = "/stall/tea?seconds=0.6"


@pytest.fixture
def fast() -> Iterator[Instance]:
    with watched(ANYWHERE) as instance:
        yield instance


@pytest.fixture
def unusual() -> Iterator[Instance]:
    with watched(UNUSUAL) as instance:
        yield instance


def watched(app: str) -> Instance:
    """A fast instance whose handlers may block for 0.2 s."""
    return Instance(Pool.FAST, APP=app, FAST_BLOCK_BUDGET_SECONDS=0.2, expected="blocked its instance")


def is_handed_over(response: Response) -> bool:
    return response.headers["X-Accel-Redirect"] == "@handed_over"


def test_a_route_is_handed_over_after_it_has_blocked_once_and_not_before(fast: Instance) -> None:
    assert fast.get("/stall/tea?seconds=0").text == "stalled ('tea',)"
    assert fast.get(BLOCKS).text == "stalled ('tea',)"
    fast.wait_for_output("blocked its instance .* and goes to the slow pool for now")
    assert value(fast, "event_loop_blocked_seconds_count", http_route="/stall/{}") == 1
    for path, method in ((BLOCKS, "GET"), ("/stall/milk?seconds=1000", "GET"), (BLOCKS, "POST")):
        response = fast.get(path, method, b"x" * 100_000 if method == "POST" else None)
        assert (response.status, response.body) == (200, b"")
        assert is_handed_over(response)
    assert value(fast, "event_loop_blocked_seconds_count", http_route="/stall/{}") == 1, "it has not run"
    assert value(fast, "requests_handed_over_total", http_route="/stall/{}") == 3
    assert fast.get("/ok").text == "ok", "other routes are not concerned"


def test_a_body_that_nginx_does_not_keep_stays_where_it_is(fast: Instance) -> None:
    assert fast.get(BLOCKS).status == 200
    streamed = {"X-Slowpool-Streamed": "1"}
    wait_until(lambda: is_handed_over(fast.get("/stall/tea?seconds=0")))
    assert request(fast.port, "/stall/tea?seconds=0", headers=streamed).text == "stalled ('tea',)"


def test_a_coroutine_of_tornados_that_blocks_after_it_has_waited_is_learned(unusual: Instance) -> None:
    assert unusual.get("/coroutine?seconds=0.6").text == "done"
    unusual.wait_for_output("/coroutine blocked its instance .* and goes to the slow pool for now")
    assert is_handed_over(unusual.get("/coroutine?seconds=0"))


def test_a_websocket_that_blocks_stays_where_it_is(unusual: Instance) -> None:
    async def talk(seconds: str) -> object:
        async with websocket(f"ws://127.0.0.1:{unusual.port}/talk/blocking") as connection:
            await connection.write_message(seconds)
            return await connection.read_message()

    assert asyncio.run(talk("0.6")) == "done"
    line = unusual.wait_for_output("/talk/blocking blocked its instance")
    assert "goes to the slow pool" not in line
    assert asyncio.run(talk("0")) == "done"


def test_after_a_while_it_is_tried_here_again() -> None:
    settings: dict[str, Any] = {"FAST_BLOCK_BUDGET_SECONDS": 0.2, "SLOW_LEARN_SECONDS": 2}
    with Instance(Pool.FAST, APP=ANYWHERE, expected="blocked its instance", **settings) as instance:
        assert instance.get(BLOCKS).status == 200
        wait_until(lambda: is_handed_over(instance.get("/stall/tea?seconds=0")))
        wait_until(lambda: instance.get("/stall/tea?seconds=0").text == "stalled ('tea',)")


@pytest.mark.parametrize(
    ("pool", "seconds"), [(Pool.FAST, 0), (Pool.ALL, 600), (Pool.SLOW, 600)], ids=["never", "all", "slow"]
)
def test_where_nothing_is_to_be_learned_it_blocks_again(pool: Pool, seconds: int) -> None:
    settings: dict[str, Any] = {"FAST_BLOCK_BUDGET_SECONDS": 0.2, "SLOW_LEARN_SECONDS": seconds}
    with Instance(pool, APP=ANYWHERE, expected="blocked its instance", **settings) as instance:
        for _ in range(2):
            assert instance.get(BLOCKS).text == "stalled ('tea',)"
        assert "goes to the slow pool" not in instance.output
