"""The promise: slow requests never hurt fast ones."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.basics import wait_until
from tests.support.client import request
from tests.support.system import System

pytestmark = pytest.mark.alone

REQUESTS = 100


@pytest.fixture(scope="module")
def three_slow() -> Iterator[System]:
    """A system with three slow instances."""
    with System(SLOW_PROCESSES=3, SLOW_PER_CLIENT=0) as system:
        yield system


def test_three_blocked_slow_instances_do_not_delay_fast_requests(
    three_slow: System, background: ThreadPoolExecutor
) -> None:
    idle = fast_seconds(three_slow)
    slow = [background.submit(three_slow.get, f"/slow?id={number}&n=8000") for number in range(3)]
    wait_until(lambda: all(is_blocked(port) for port in three_slow.instances("slow")))
    loaded = fast_seconds(three_slow)
    assert not any(answer.done() for answer in slow), "a slow answer came before the last fast one"
    assert sorted(answer.result().headers["X-Served-By"] for answer in slow) == [
        f"slow:{port}" for port in three_slow.instances("slow")
    ]
    # Half of the requests took less; the processors are shared, so the bound is generous. One request
    # behind a blocked instance would have taken seconds.
    assert statistics.median(loaded) < 20 * statistics.median(idle)


def test_a_slow_request_goes_to_an_instance_that_is_not_busy(
    three_slow: System, background: ThreadPoolExecutor
) -> None:
    blocking = background.submit(three_slow.get, "/slow?id=1&n=8000")
    wait_until(lambda: any(is_blocked(port) for port in three_slow.instances("slow")))
    others = [three_slow.get("/slow?id=2&n=9") for _ in range(20)]
    assert not blocking.done()
    busy = blocking.result().headers["X-Served-By"]
    assert {answer.status for answer in others} == {200}
    assert busy not in {answer.headers["X-Served-By"] for answer in others}


def fast_seconds(system: System) -> list[float]:
    """The time that each of some fast requests took, one after the other."""
    taken = []
    for number in range(REQUESTS):
        start = time.perf_counter()
        response = system.get(f"/fast?id={number}")
        taken.append(time.perf_counter() - start)
        assert response.text == f"fast result {number}"
    return taken


def is_blocked(port: int) -> bool:
    """Whether an instance does not answer its probe, which an idle one does within milliseconds."""
    try:
        request(port, "/livez", timeout=0.3)
    except TimeoutError:
        return True
    return False
