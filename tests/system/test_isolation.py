"""The promise: slow requests never hurt fast ones. The benchmark measures by how much they might."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.gate import Gate
from tests.support.system import System

REQUESTS = 100


@pytest.fixture(scope="module")
def three_slow() -> Iterator[System]:
    """A system with three slow instances."""
    with System(APP="tests.apps.controlled:make_app", SLOW_PROCESSES=3, SLOW_PER_CLIENT=0) as system:
        yield system


def test_fast_requests_are_answered_while_all_slow_instances_are_blocked(
    three_slow: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    slow = [background.submit(three_slow.get, gate("/slow/block")) for _ in range(3)]
    gate.wait_for(3)
    assert set(gate.entered) == {three_slow.pid_of("slow", port) for port in three_slow.instances("slow")}
    for number in range(REQUESTS):
        response = three_slow.get(f"/echo/{number}")
        assert (response.status, response.text) == (200, f"/echo/{number}")
    assert not any(answer.done() for answer in slow)
    gate.open()
    assert [answer.result().text for answer in slow] == ["released"] * 3


def test_a_slow_request_goes_to_an_instance_that_is_not_busy(
    three_slow: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    blocking = background.submit(three_slow.get, gate("/slow/block"))
    gate.wait_for(1)
    others = [three_slow.get("/slow/echo") for _ in range(20)]
    assert not blocking.done()
    gate.open()
    busy = blocking.result().headers["X-Served-By"]
    assert {answer.status for answer in others} == {200}
    assert busy not in {answer.headers["X-Served-By"] for answer in others}
