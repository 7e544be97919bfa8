"""Instances tell each other what happens, and leave their history to another one."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from slowpool.config import Pool
from slowpool.observe.events import MOST
from slowpool.observe.peers import MAX_BYTES
from tests.support import watching
from tests.support.basics import free_ports, wait_until
from tests.support.client import Response, exchange, request
from tests.support.process import Instance
from tests.support.watching import answered, overview

Start = Callable[..., Instance]
"""Makes an instance of a pool, the first or another one, with more settings."""

JSON = {"Content-Type": "application/json"}
EVENT = {"id": "0123456789abcdef", "at": 7.5, "kind": "ready", "instance": "fast:1", "text": "told"}


class Deployment:
    """Makes instances of a deployment with two fast and two slow ones, which find each other."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"FAST_PORT": free_ports(2), "SLOW_PORT": free_ports(2)}
        self.settings |= {"FAST_PROCESSES": 2, "SLOW_PROCESSES": 2, "SLOW_WORKERS": 1}

    def instance(self, pool: Pool, number: int = 0, **options: Any) -> Instance:
        port = self.settings[f"{pool.upper()}_PORT"] + number
        return Instance(pool, port=port, **{**self.settings, **options})


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def events(instance: Instance, *kinds: str) -> list[dict[str, Any]]:
    return watching.events(instance.port, *kinds)


def names(instance: Instance, *kinds: str) -> list[tuple[str, str]]:
    return [(event["kind"], event["instance"]) for event in events(instance, *kinds)]


def post(instance: Instance, path: str, body: Any, headers: dict[str, str] = JSON) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(instance.port, path, "POST", body=data, headers=headers)


def test_what_happens_to_an_instance_is_known_to_all_and_to_those_that_come_later(
    deployment: Deployment,
) -> None:
    with deployment.instance(Pool.FAST) as first, deployment.instance(Pool.SLOW) as slow:
        ready = [("ready", f"slow:{slow.port}"), ("ready", f"fast:{first.port}")]
        for instance in (first, slow):
            wait_until(lambda: names(instance) == ready)  # noqa: B023  # waits here
        slow.terminate()
        slow.wait()
        ended = [("drain", f"slow:{slow.port}"), *ready]
        wait_until(lambda: names(first) == ended)
        with deployment.instance(Pool.FAST, 1) as second:
            wait_until(lambda: names(second) == [("ready", f"fast:{second.port}"), *ended])
            wait_until(lambda: events(second) == events(first))
            assert "release 0" in events(first)[0]["text"]


def test_one_that_was_killed_knows_all_again(deployment: Deployment) -> None:
    with deployment.instance(Pool.FAST) as first:
        with deployment.instance(Pool.FAST, 1, ends_with=-signal.SIGKILL) as second:
            wait_until(lambda: len(events(first)) == len(events(second)) == 2)
            second.signal(signal.SIGKILL)
            second.wait()
        with deployment.instance(Pool.FAST, 1) as second:
            wait_until(lambda: len(events(second)) == 3)
            assert events(first) == events(second)


def test_a_route_that_is_learned_and_a_full_queue_are_events(deployment: Deployment) -> None:
    settings: dict[str, Any] = {"APP": "tests.apps.anywhere:make_app", "FAST_BLOCK_BUDGET_SECONDS": 0.2}
    settings["SLOW_QUEUE"] = 0
    with (
        deployment.instance(Pool.FAST, expected="blocked its instance", **settings) as fast,
        deployment.instance(Pool.SLOW, **{**settings, "APP": "tests.apps.watched:make_app"}) as slow,
    ):
        assert fast.get("/stall/tea?seconds=0.6").status == 200
        (learned,) = wait_until(lambda: events(slow, "learned"))
        assert learned["instance"] == f"fast:{fast.port}"
        assert learned["text"].startswith("/stall/{} blocked for 0.")
        assert "anywhere.py:" in learned["text"]
        wait_until(lambda: full(slow))
        (refused,) = wait_until(lambda: events(fast, "full"))
        assert refused["instance"] == f"slow:{slow.port}"
        assert "0 wait" in refused["text"]
        assert "1 refused" in refused["text"]


def full(slow: Instance) -> bool:
    """Have a job refused, beside one that runs."""
    with socket.create_connection(("127.0.0.1", slow.port)) as client:
        client.sendall(b"GET /slow/task/sleep?seconds=30 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: b"slow_jobs_running 1.0" in slow.get("/-/metrics").body)
        return slow.get("/slow/task/sleep?seconds=0").status == 503


def test_settings_that_differ_are_named_without_their_values(deployment: Deployment) -> None:
    secret: dict[str, Any] = {"JOBS_URL": "valkey://user:secret@127.0.0.1:1/0"}
    expected = "accepted jobs cannot be"
    with (
        deployment.instance(Pool.FAST) as first,
        deployment.instance(Pool.SLOW, SLOW_QUEUE=76543, expected=expected, **secret) as slow,
    ):
        (event,) = wait_until(lambda: events(first, "settings"))
        assert event["instance"] == f"slow:{slow.port}"
        assert event["text"].startswith(f"other values than fast:{first.port} has: ")
        assert set(event["text"].rpartition(": ")[2].split(", ")) == {"JOBS_URL", "SLOW_QUEUE"}
        for instance in (first, slow):
            told = instance.get("/-/events").text
            assert not any(value in told for value in ("76543", "secret", "valkey"))
        with deployment.instance(Pool.FAST, 1) as second:
            both = {f"slow:{slow.port}", f"fast:{second.port}"}
            wait_until(lambda: {one["instance"] for one in events(second, "settings")} == both)


FORGED: dict[str, tuple[Any, int]] = {
    "not JSON": (b"hello", 400),
    "nothing": (b"", 400),
    "one event": (EVENT, 400),
    "no list": ({"events": [EVENT]}, 400),
    "one of another type": ([EVENT, {**EVENT, "id": 7}], 400),
    "one without a text": ([{name: EVENT[name] for name in ("id", "at", "kind", "instance")}], 400),
    "a long text": ([{**EVENT, "text": "x" * 1000}], 400),
    "too many": ([{**EVENT, "id": f"{number:016x}"} for number in range(MOST + 1)], 400),
    "too large": (json.dumps([EVENT]).encode() + b" " * MAX_BYTES, 413),
}


@pytest.fixture(scope="module")
def alone() -> Iterator[Instance]:
    """An instance whose peers do not run."""
    with Deployment().instance(Pool.FAST) as instance:
        yield instance


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_list_of_events_changes_nothing(alone: Instance, name: str) -> None:
    before = events(alone)
    body, status = FORGED[name]
    answer = post(alone, "/-/events", body)
    assert answer.status == status
    assert answer.problem()["detail"]
    assert events(alone) == before


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/-/events", "/-/history"])
def test_a_page_of_another_site_cannot_tell_anything(
    alone: Instance, path: str, content_type: str | None
) -> None:
    before = events(alone)
    answer = post(alone, path, [EVENT], {"Content-Type": content_type} if content_type else {})
    assert answer.status == 400
    assert "application/json" in answer.problem()["detail"]
    assert request(alone.port, path, "OPTIONS", headers={"Origin": "http://evil.example"}).status == 405
    assert events(alone) == before


def test_an_event_that_is_told_is_kept(deployment: Deployment) -> None:
    with deployment.instance(Pool.FAST) as instance:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        assert post(instance, "/-/events", [EVENT], headers).status == 204
        assert EVENT in events(instance)


@pytest.mark.parametrize("server", ["slowpool", "tornado"])
def test_what_instances_send_each_other_may_be_larger_than_what_clients_send(
    deployment: Deployment, server: str
) -> None:
    with deployment.instance(Pool.FAST, MAX_BODY_BYTES=10, HTTP_SERVER=server) as instance:
        assert post(instance, "/-/events", [EVENT]).status == 204
        history = {"processes": {"0123456789abcdef": 1}, "steps": {}}
        assert post(instance, "/-/history", history).status == 204
        # In one piece: Tornado's server resets a client that sends a body behind its answer.
        body = json.dumps([EVENT])
        rest = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        for head in ("POST /fast HTTP/1.1\r\n", "POST /-/events HTTP/1.1\r\nX-Slowpool-Public: 1\r\n"):
            assert exchange(instance.port, f"{head}{rest}".encode()).status == 400


FALSE_HISTORIES: dict[str, Any] = {
    "not JSON": b"hello",
    "a list": [],
    "no number": {"processes": {}, "steps": {"x": {}}},
    "no process": {"processes": {"x": 1}, "steps": {}},
    "a negative count": {"processes": {}, "steps": {"1": {"requests": -1}}},
    "too many steps": {"processes": {}, "steps": {str(number): {} for number in range(1000)}},
    "too many processes": {"processes": {f"{number:016x}": 1 for number in range(1000)}, "steps": {}},
}


@pytest.mark.parametrize("name", FALSE_HISTORIES)
def test_what_is_no_history_is_refused(alone: Instance, name: str) -> None:
    assert post(alone, "/-/history", FALSE_HISTORIES[name]).status == 400


@contextmanager
def silent(port: int) -> Iterator[None]:
    """Something that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def test_one_that_never_answers_stops_nobody(deployment: Deployment) -> None:
    with (
        silent(deployment.settings["FAST_PORT"] + 1),
        deployment.instance(Pool.FAST) as first,
        deployment.instance(Pool.SLOW) as slow,
    ):
        wait_until(lambda: len(names(first)) == len(names(slow)) == 2)
        first.terminate()
        assert first.wait() == 0
        wait_until(lambda: len(names(slow, "drain")) == 1)


def test_a_second_signal_ends_one_that_waits_for_the_others(deployment: Deployment) -> None:
    with (
        socket.create_server(("127.0.0.1", deployment.settings["FAST_PORT"] + 1)) as other,
        deployment.instance(Pool.FAST, APP="tests.apps.patient:make_app") as instance,
    ):
        instance.terminate()
        asked, connections = b"", []  # which stay open
        while b"/-/readyz" not in asked:
            connections.append(other.accept()[0])
            asked = connections[-1].recv(4096)
        assert instance.running
        instance.terminate()
        assert instance.wait() == 0
        for connection in connections:
            connection.close()


def test_a_rolling_restart_of_a_pool_changes_no_total(deployment: Deployment) -> None:
    def wait_for(requests: int) -> None:
        wait_until(lambda: answered(deployment.settings, "fast") == requests)

    with deployment.instance(Pool.SLOW), deployment.instance(Pool.FAST, 1) as second:
        with deployment.instance(Pool.FAST) as first:
            for instance, count in ((first, 7), (second, 5)):
                for _ in range(count):
                    assert instance.get("/fast?id=7").status == 200
            wait_for(12)
            first.terminate()
            first.wait()
        wait_for(12)
        with deployment.instance(Pool.FAST) as first:
            second.terminate()
            second.wait()
            wait_for(12)
            assert first.get("/fast?id=7").status == 200
            wait_for(13)
            assert answered(deployment.settings, "slow") == 0


def test_blocks_and_latencies_are_left_too(deployment: Deployment) -> None:
    settings: dict[str, Any] = {"APP": "tests.apps.anywhere:make_app", "FAST_BLOCK_BUDGET_SECONDS": 0.2}

    with deployment.instance(Pool.FAST, 1, **settings):
        with deployment.instance(Pool.FAST, expected="blocked its instance", **settings) as first:
            assert first.get("/stall/tea?seconds=0.6").status == 200
            wait_until(lambda: events(first, "learned"))
            first.terminate()
            first.wait()
        seen = wait_until(lambda: with_latency(deployment))
        assert seen["pools"]["fast"]["p99_seconds"] > 0.5
        assert any(hint.startswith("/stall/{} blocked its fast instance") for hint in seen["hints"])


def with_latency(deployment: Deployment) -> dict[str, Any] | None:
    """What is seen, once the pool has a latency."""
    seen = overview(deployment.settings)
    return seen if seen["pools"]["fast"]["p99_seconds"] else None


def test_without_another_one_of_its_pool_the_history_ends_with_an_instance(deployment: Deployment) -> None:
    with deployment.instance(Pool.SLOW), deployment.instance(Pool.FAST) as first:
        assert first.get("/fast?id=7").status == 200
        first.terminate()
        assert first.wait() == 0
        assert answered(deployment.settings, "slow") == 0
