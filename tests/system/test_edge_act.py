"""What nginx does with an operator's actions."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.client import Response, exchange, request
from tests.support.upstream import Edge, Seen, answer, who

ACT = {"X-Slowpool-Act": "1"}
WISH = b'{"action": "roll", "pool": "slow"}'
CLAIM = {"X-Slowpool-User": "mallory", "Authorization": "Basic " + base64.b64encode(b"mallory:x").decode()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    shared.reply = who
    shared.seen.clear()
    return shared


def act(edge: Edge, method: str = "POST", **headers: str) -> Response:
    body = WISH if method == "POST" else None
    return request(edge.nginx.admin_port, "/status/act", method, headers={**ACT, **headers}, body=body)


def test_the_body_of_an_action_reaches_the_instance_of_the_page(edge: Edge) -> None:
    page = request(edge.nginx.admin_port, "/status")
    done = act(edge)
    assert done.text == page.text, "the same instance"
    (_, seen) = edge.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/-/status/act", WISH)
    assert seen.headers["x-slowpool-act"] == "1"
    assert not {"x-slowpool-user", "x-slowpool-public"} & seen.headers.keys()


def test_a_body_of_unknown_length_does_too_and_a_large_one_is_refused(edge: Edge) -> None:
    head = b"POST /status/act HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert exchange(edge.nginx.admin_port, chunked).status == 200
    assert [seen.body for seen in edge.seen] == [b"{}"]
    large = head + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000
    refused = exchange(edge.nginx.admin_port, large)
    assert refused.status == 413
    assert refused.problem()
    assert len(edge.seen) == 1


@pytest.mark.parametrize("path", ["/status", "/status/", "/status/live", "/status/act/", "/status/act2"])
def test_nothing_else_on_the_admin_port_has_a_body_for_an_instance(edge: Edge, path: str) -> None:
    request(edge.nginx.admin_port, path, "POST", headers=ACT, body=WISH)
    assert [(seen.body, seen.headers.get("content-length")) for seen in edge.seen] == [(b"", None)]


@pytest.mark.parametrize(
    "path", ["/act/restart", "/-/act/restart", "/status/../-/act/restart", "/-/status/act"]
)
def test_an_instances_own_actions_are_published_nowhere(edge: Edge, path: str) -> None:
    for port in (edge.nginx.admin_port, edge.nginx.port):
        answered = request(port, path, "POST", headers=ACT, body=b"")
        assert (answered.status, answered.pool) in ((404, ""), (200, "fast"))
    assert not [seen for seen in edge.seen if "-/" in seen.target]


def test_nobody_is_believed_who_claims_a_name_and_the_public_port_passes_no_action_on(edge: Edge) -> None:
    act(edge, **CLAIM)
    edge.get("/status/act", "POST", headers={**ACT, **CLAIM}, body=WISH)
    edge.get("/slow/status/act", "POST", headers={**ACT, **CLAIM}, body=WISH)
    admin, *public = edge.seen
    assert "x-slowpool-user" not in admin.headers
    assert len(public) == 2
    for seen in public:
        assert not {"x-slowpool-user", "x-slowpool-act"} & seen.headers.keys()


def test_with_a_password_its_user_acts(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse")
    with Edge(tmp_path / "nginx", ADMIN_PASSWORD_FILE=tmp_path / "password") as edge:
        for text in ("mallory:x", "admin:wrong", "admin:"):
            wrong = "Basic " + base64.b64encode(text.encode()).decode()
            assert act(edge, Authorization=wrong).status == 401
        assert act(edge).status == 401
        assert not edge.seen
        right = "Basic " + base64.b64encode(b"admin:correct horse").decode()
        assert act(edge, Authorization=right, **{"X-Slowpool-User": "mallory"}).status == 200
        assert [seen.headers["x-slowpool-user"] for seen in edge.seen] == ["admin"]
        edge.get("/x", headers={**ACT, "Authorization": right})
        assert "x-slowpool-user" not in edge.seen[-1].headers


def test_an_action_is_done_by_a_slow_instance_when_no_fast_one_takes_it(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        for instance in edge.of(Pool.FAST):
            instance.stop()
        assert act(edge).pool == "slow"
        (seen,) = edge.seen
        assert (seen.method, seen.target, seen.body) == ("POST", "/-/status/act", WISH)
        assert seen.headers["x-slowpool-act"] == "1"


def test_an_action_whose_instance_dies_with_it_is_not_done_again(edge: Edge) -> None:
    def die(seen: Seen) -> bytes | None:
        return None

    edge.reply = die
    answered = act(edge)
    assert answered.status == 502
    assert answered.problem()["detail"] == "the instance ended while it had the request"
    assert len(edge.seen) == 1


def test_the_answer_of_an_instance_is_passed_on_as_it_is(edge: Edge) -> None:
    edge.reply = lambda seen: answer("why not", 409, Content_Type="application/problem+json")
    refused = act(edge)
    assert (refused.status, refused.text) == (409, "why not")
