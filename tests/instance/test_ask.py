"""When a slow instance has nginx ask the others, and what it answers when it is asked itself."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import IncompleteRead

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import Response, request
from tests.support.gate import Gate
from tests.support.metrics import scrape, value
from tests.support.process import Instance

ALL = "idle place"


@pytest.fixture(scope="module")
def shared() -> Iterator[Instance]:
    with Instance(
        Pool.SLOW,
        APP="tests.apps.anywhere:make_app",
        SLOW_WORKERS=1,
        SLOW_QUEUE=1,
        expected=" 503 ",
    ) as instance:
        for path in ("/seen", "/hooks?folder=/tmp", "/upload"):
            instance.get(path, "PUT" if path == "/upload" else "GET")
        yield instance


@pytest.fixture
def slow(shared: Instance) -> Instance:
    """An instance that runs and waits for nothing, and knows that ``/seen`` and ``/upload`` run jobs."""
    wait_until(lambda: jobs(shared) == 0)
    wait_until(lambda: ask(shared, "/-/ask/idle", "").status == 200)
    return shared


@pytest.fixture
def occupy(slow: Instance, gate: Gate, background: ThreadPoolExecutor) -> Iterator[Callable[[int], None]]:
    """Gives the instance so many jobs: 1 keeps its worker busy, 2 fill it."""
    sent: list[Future[Response]] = []

    def occupy(count: int) -> None:
        while len(sent) < count:
            sent.append(background.submit(slow.get, gate("/wait")))
            wait_until(lambda: jobs(slow) == len(sent))

    yield occupy
    gate.open()
    assert [one.result().text for one in sent] == ["released"] * len(sent)


def jobs(instance: Instance) -> float:
    """How many run and wait."""
    return value(instance, "slow_jobs_running") + value(instance, "slow_jobs_waiting")


def ask(
    instance: Instance, target: str, asks: str, method: str = "GET", body: bytes | None = None
) -> Response:
    """A request as nginx sends it, which can still ask for ``asks``."""
    headers = {"X-Slowpool-Asks": asks, "X-Slowpool-Public": "1", "X-Slowpool-Elapsed": "3"}
    if target.startswith("/-/"):
        headers = {}
    return request(instance.port, target, method, headers=headers, body=body)


def assert_asks(response: Response, for_what: str) -> None:
    """The answer tells nginx what to ask for, and has nothing of a handler's."""
    assert (response.status, response.body) == (200, b"")
    assert response.headers["X-Accel-Redirect"] == f"@ask_{for_what}"
    assert 3 <= float(response.headers["X-Slowpool-Elapsed"]) < 33
    theirs = {"X-Prepared", "Set-Cookie", "X-Worker", "Content-Type", "Etag", "Transfer-Encoding"}
    assert not theirs & set(response.headers.keys())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_request_of_a_route_that_runs_jobs_is_sent_on_while_no_worker_is_idle(
    slow: Instance, occupy: Callable[[int], None], method: str, size: int
) -> None:
    occupy(1)
    assert_asks(ask(slow, "/seen/other", ALL, method, b"x" * size), "idle")
    occupy(2)
    assert_asks(ask(slow, "/seen", ALL, method, b"x" * size), "place")


def test_a_body_that_is_taken_as_it_comes_is_read_to_its_end_first(
    slow: Instance, occupy: Callable[[int], None]
) -> None:
    occupy(1)
    assert_asks(ask(slow, "/upload", ALL, "PUT", b"x" * 5_000_000), "idle")


def test_none_of_its_hooks_is_called(slow: Instance, occupy: Callable[[int], None], gate: Gate) -> None:
    occupy(1)
    assert_asks(ask(slow, gate("/hooks"), ALL), "idle")
    assert not (gate.folder / "hooks").exists()


def test_nothing_is_asked_while_a_worker_is_idle(slow: Instance) -> None:
    assert ask(slow, "/seen", ALL).headers["X-Worker"]


def test_a_route_that_runs_no_job_is_never_sent_on(slow: Instance, occupy: Callable[[int], None]) -> None:
    occupy(2)
    assert ask(slow, "/ok", ALL).text == "ok"


def test_what_has_been_asked_for_is_not_asked_for_again(
    slow: Instance, occupy: Callable[[int], None], background: ThreadPoolExecutor
) -> None:
    occupy(1)
    waiting = [background.submit(ask, slow, "/seen", "place")]
    wait_until(lambda: jobs(slow) == 2)
    for asks in ("none", "idle", ""):
        refused = ask(slow, "/seen", asks)
        assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert "the slow pool is full" in refused.problem()["detail"]
    occupy(0)
    assert not waiting[0].done()


def test_a_full_instance_sends_the_first_job_of_a_request_on_though_it_does_not_know_the_route(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    expected = " 503 |Cannot send error response after headers written"  # /begun
    with Instance(
        Pool.SLOW,
        APP="tests.apps.anywhere:make_app",
        SLOW_WORKERS=1,
        SLOW_QUEUE=0,
        expected=expected,
    ) as slow:
        held = background.submit(slow.get, gate("/wait"))
        gate.wait_for(1)
        assert_asks(ask(slow, gate("/hooks"), ALL), "place")
        wait_until(lambda: hooks(gate)[-1].startswith("on_finish"))
        assert hooks(gate) == ["initialize", "prepare", "get", "on_finish 200"]
        assert_asks(ask(slow, "/nested", ALL), "place")
        with pytest.raises(IncompleteRead):  # nothing is sent on once the answer has begun
            ask(slow, "/begun", ALL)
        assert value(slow, "slow_jobs_total", outcome="refused") == 1
        assert ask(slow, "/old", "idle").status == 503
        gate.open()
        assert held.result().text == "released"


def hooks(gate: Gate) -> list[str]:
    """The hooks that have been called."""
    return (gate.folder / "hooks").read_text().splitlines()


def test_a_request_that_is_sent_on_is_counted_as_such_and_not_answered_here(
    slow: Instance, occupy: Callable[[int], None]
) -> None:
    occupy(1)
    before = scrape(slow)
    assert_asks(ask(slow, "/seen", ALL), "idle")
    after = scrape(slow)
    changed = {key for key in after if after[key] != before.get(key) and re.match("slow_|http_", key[0])}
    assert {name for name, _ in changed} - {"slow_asks_created"} == {"slow_asks_total"}
    assert value(slow, "http_server_active_requests", pool="slow") == 1


@pytest.mark.parametrize(
    ("count", "idle", "place"), [(0, 200, 200), (1, 404, 200), (2, 404, 404)], ids=["idle", "busy", "full"]
)
def test_an_instance_that_is_asked_takes_what_it_has_a_worker_or_a_place_for(
    slow: Instance, occupy: Callable[[int], None], count: int, idle: int, place: int
) -> None:
    occupy(count)
    for what, status in (("idle", idle), ("place", place)):
        answer = ask(slow, f"/-/ask/{what}", "")
        assert answer.status == status
        assert answer.headers["X-Accel-Redirect"] == ("@asked" if status == 200 else None)


def test_a_client_cannot_ask(slow: Instance) -> None:
    answer = request(slow.port, "/-/ask/idle", headers={"X-Slowpool-Public": "1"})
    assert (answer.status, answer.headers["X-Accel-Redirect"]) == (404, None)
    assert ask(slow, "/-/ask/more", "").status == 404


def test_the_application_does_not_see_what_nginx_allows(slow: Instance) -> None:
    assert "Slowpool" not in ask(slow, "/seen", ALL).text


def test_a_fast_instance_takes_nothing_and_asks_for_nothing() -> None:
    with Instance(Pool.FAST, APP="tests.apps.anywhere:make_app") as fast:
        assert ask(fast, "/-/ask/idle", "").status == 404
        assert ask(fast, "/seen", ALL).headers["X-Accel-Redirect"] == "@handed_over"
        assert ask(fast, "/seen", ALL).headers["X-Accel-Redirect"] == "@handed_over"
