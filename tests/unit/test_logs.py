"""What stands in the log, and what does not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.config import Pool
from tests.client import request
from tests.process import Instance

SECRET = "do-not-log-this"


@pytest.fixture
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, ROUTES="tests.apps.watched", LOG_FORMAT="json", expected="") as instance:
        yield instance


def entries(instance: Instance) -> list[dict[str, Any]]:
    """Every line of the log, each of which must be a JSON object."""
    return [json.loads(line) for line in instance.output.splitlines()]


def wait_for_answer_to_be_logged(instance: Instance) -> None:
    instance.wait_for_output('"slowpool.access"')


def test_a_request_is_one_object_with_its_id_route_status_and_times(slow: Instance) -> None:
    assert (
        request(slow.port, f"/slow/task/own_pid?password={SECRET}", headers={"X-Request-ID": "me"}).status
        == 200
    )
    wait_for_answer_to_be_logged(slow)
    (entry,) = [entry for entry in entries(slow) if entry["logger"] == "slowpool.access"]
    assert entry["level"] == "INFO"
    assert (entry["pool"], entry["instance"]) == ("slow", f"slow:{slow.port}")
    assert (entry["request_id"], entry["method"], entry["route"]) == ("me", "GET", "/slow/task/{}")
    assert entry["status"] == 200
    assert 0 < entry["run_seconds"] < entry["seconds"] < 10
    assert entry["queue_seconds"] >= 0
    assert entry["time"].endswith("+00:00")


def test_what_a_worker_prints_has_the_id_of_its_request(slow: Instance) -> None:
    request(slow.port, "/slow/say?text=hello", headers={"X-Request-ID": "mine"})
    slow.wait_for_output("hello")
    (entry,) = [entry for entry in entries(slow) if entry["message"].endswith(": hello")]
    assert entry["request_id"] == "mine"
    assert entry["worker"] > 0


def test_neither_paths_nor_queries_are_logged_whatever_happens(slow: Instance) -> None:
    for path in ("/slow/task/raises", "/slow/task/exits", f"/slow/task/{SECRET}", f"/{SECRET}"):
        slow.get(f"{path}?password={SECRET}")
    slow.wait_for_output('"route": ""')
    assert SECRET not in slow.output
    assert all(entry["route"] for entry in entries(slow) if entry.get("status") == 500)


def test_an_exception_is_one_object_with_its_traceback(slow: Instance) -> None:
    slow.get("/slow/task/raises")
    slow.wait_for_output("uncaught exception")
    (entry,) = [entry for entry in entries(slow) if "uncaught exception" in entry["message"]]
    assert entry["level"] == "ERROR"
    assert "in the worker:" in entry["exception"]
    assert entry["request_id"]


def test_the_level_is_a_setting() -> None:
    with Instance(Pool.FAST, ROUTES="tests.apps.watched", LOG_LEVEL="debug") as instance:
        instance.get("/report/tea")
        instance.wait_for_output("slowpool.access")
        assert " DEBUG " in instance.output
