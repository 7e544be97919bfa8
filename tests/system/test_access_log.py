"""nginx's line about a request: it has what instances say of it, which no client sees."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from tests.support.client import Response
from tests.support.upstream import Edge, Seen, answer

TIMES = ("queue_seconds", "run_seconds")


@pytest.fixture(scope="module")
def edge(connections: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge"), count=1, CLIENT_CONNECTIONS=connections) as edge:
        yield edge


def line_of(edge: Edge, response: Response) -> dict[str, Any]:
    """The line about a request, which must be JSON; the client gets nothing of what is logged only."""
    assert not [name for name in response.headers if name.lower().startswith(("x-slowpool", "x-accel"))]
    found: dict[str, Any] = json.loads(edge.nginx.wait_for_output(response.headers["X-Request-ID"]))
    return found


def test_a_request_that_is_handed_over_has_both_instances_and_the_times_of_the_second(edge: Edge) -> None:
    def reply(seen: Seen) -> bytes:
        name = f"{seen.pool}:{seen.port}"
        if seen.pool is Pool.FAST:
            return answer(X_Accel_Redirect="@handed_over", X_Served_By=name, X_Slowpool_Route="/of/fast")
        return answer(
            "done",
            X_Served_By=name,
            X_Slowpool_Route="/report/{}",
            X_Slowpool_Queue_Seconds="0.0100",
            X_Slowpool_Run_Seconds="12.5000",
        )

    edge.reply = reply
    line = line_of(edge, edge.get("/report/7"))
    (fast,), (slow,) = edge.of(Pool.FAST), edge.of(Pool.SLOW)
    assert (line["handed_over_by"], line["instance"]) == (f"fast:{fast.port}", f"slow:{slow.port}")
    assert (line["path"], line["route"]) == ("/report/7", "/report/{}")
    assert [line[name] for name in TIMES] == [0.01, 12.5]


@pytest.mark.parametrize("path", ["/x", "/slow/x"])
def test_a_request_of_which_an_instance_says_nothing_has_nulls_and_empty_texts(edge: Edge, path: str) -> None:
    edge.reply = lambda _: answer("done")
    line = line_of(edge, edge.get(path))
    assert [line[name] for name in TIMES] == [None, None]
    assert (line["route"], line["instance"], line["handed_over_by"]) == ("", "", "")


@pytest.mark.parametrize("route", [r'/a\d"}', "/" + 199 * "x"])
def test_a_route_is_logged_as_it_is(edge: Edge, route: str) -> None:
    edge.reply = lambda _: answer("done", X_Slowpool_Route=route)
    assert line_of(edge, edge.get("/x"))["route"] == route


@pytest.mark.parametrize(
    "odd", ["", "/straße", "/a\tb", "/" + 200 * "x", '1,"client":"0.0.0.0"', "-1.0", "1e9", "nan", "1"]
)
def test_a_value_that_is_not_what_it_should_be_is_left_out(edge: Edge, odd: str) -> None:
    edge.reply = lambda _: answer(
        "done", X_Slowpool_Queue_Seconds=odd, X_Slowpool_Run_Seconds=odd, X_Slowpool_Route=odd
    )
    line = line_of(edge, edge.get("/x"))
    assert [line[name] for name in TIMES] == [None, None]
    assert line["client"] == "127.0.0.1"
    assert line["route"] in ("", odd)
    assert line["route"].isascii()
    assert len(line["route"]) <= 200


def test_the_line_for_people_has_the_route(tmp_path: Path) -> None:
    with Edge(tmp_path, lambda _: answer("done", X_Slowpool_Route="/a/{}"), LOG_FORMAT="console") as edge:
        edge.get("/a/7")
        edge.nginx.wait_for_output(r" nginx 200 GET /a/7 /a/\{\} [0-9.]+ s ")
