"""What nginx does when a slow instance without an idle worker has it ask the others."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import exchange
from tests.support.http2 import Http2
from tests.support.upstream import HAND_OVER, Answer, Edge, Seen, answer, who

BODIES = [("GET", None), ("HEAD", None), ("DELETE", None), ("GET", b"x"), ("PUT", b"x"),
          ("POST", b"x" * 3_000_000), ("POST", b""), ("PATCH", b"x")]  # fmt: skip
WAYS = ["/slow/a%2Fb//c?d=%2F&e", "/a%2Fb//c?d=%2F&e"]
"""A path of the slow pool, and one that is handed over to it."""

NO = answer("no", 404)


def redirect(location: str) -> bytes:
    """The answer of an instance that sends a request on."""
    return answer(X_Accel_Redirect=location, X_Slowpool_Elapsed="2.500")


def asking(
    asks: str = "idle", takes: Callable[[Seen], bool] = lambda _: True, then: Answer = who
) -> Callable[[Seen], bytes | None]:
    """Slow instances: each asks for ``asks`` if it may; ``takes`` answers an ask, ``then`` the rest."""

    def reply(seen: Seen) -> bytes | None:
        if seen.pool is Pool.FAST:
            return HAND_OVER
        if is_ask(seen):
            return redirect("@asked") if takes(seen) else NO
        allowed = seen.headers.get("x-slowpool-asks", "").split()
        for ask in asks.split():
            if ask in allowed:
                return redirect(f"@ask_{ask}")
        return then(seen)

    return reply


def is_ask(seen: Seen) -> bool:
    return seen.target.startswith("/-/ask/")


def is_other(edge: Edge) -> Callable[[Seen], bool]:
    """Whether an instance is not the one that had the request first."""
    return lambda seen: seen.port != edge.seen_by(Pool.SLOW)[0].port


@pytest.fixture(scope="module")
def shared(connections: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(
        tmp_path_factory.mktemp("edge"), count=3, CLIENT_CONNECTIONS=connections, STREAM_PATHS="/slow/upload"
    ) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    """For tests that lose no instance."""
    shared.reply = asking()
    shared.seen.clear()
    return shared


@pytest.fixture
def frail(connections: int, tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path, count=3, CLIENT_CONNECTIONS=connections) as edge:
        yield edge


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize(("method", "body"), BODIES)
def test_the_instance_that_takes_the_request_gets_it_as_the_client_sent_it(
    edge: Edge, target: str, method: str, body: bytes | None
) -> None:
    edge.reply = asking(takes=is_other(edge))
    headers = {"X-Mine": "kept", "Cookie": "a=b", "Host": "shop.example:81", "X-Request-ID": "mine"}
    response = edge.get(target, method, body=body, headers=headers)
    assert (response.status, response.pool) == (200, "slow")
    first, *asks, last = edge.seen_by(Pool.SLOW)
    assert first.port != last.port == asks[-1].port
    for seen in (first, last):
        assert (seen.method, seen.target, seen.body) == (method, target, body or b"")
    assert last.headers["x-slowpool-elapsed"] == "2.500"
    assert [seen.headers["x-slowpool-asks"] for seen in (first, last)] == ["idle place", "place"]
    changed = {"x-slowpool-elapsed", "x-slowpool-asks"}
    assert {name: value for name, value in first.headers.items() if name not in changed} == {
        name: value for name, value in last.headers.items() if name not in changed
    }
    assert not [name for name in response.headers if name.lower().startswith(("x-slowpool", "x-accel"))]


@pytest.mark.parametrize("target", WAYS)
def test_a_large_body_of_unknown_length_is_passed_on_whole(edge: Edge, target: str) -> None:
    edge.reply = asking(takes=is_other(edge))
    body = b"0123456789" * 100_000
    head = b"PUT %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % target.encode()
    response = exchange(edge.nginx.port, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert (response.status, response.pool) == (200, "slow")
    assert [seen.body for seen in edge.seen_by(Pool.SLOW) if not is_ask(seen)] == [body, body]


@pytest.mark.parametrize(("method", "body"), BODIES)
def test_an_ask_has_nothing_of_the_request(edge: Edge, method: str, body: bytes | None) -> None:
    edge.reply = asking(takes=lambda _: False)
    edge.get(
        "/slow/x", method, body=body, headers={"Cookie": "a=b", "X-Mine": "kept", "X-Request-ID": "mine"}
    )
    asks = list(filter(is_ask, edge.seen))
    assert sorted(seen.port for seen in asks) == sorted(instance.port for instance in edge.of(Pool.SLOW))
    for seen in asks:
        assert (seen.method, seen.target, seen.body) == ("GET", "/-/ask/idle", b"")
        assert seen.headers == {"host": "localhost", "x-request-id": "mine"}


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("order", ["idle place", "place idle"])
def test_a_request_that_nobody_takes_comes_back_and_each_thing_is_asked_for_once(
    edge: Edge, target: str, method: str, order: str
) -> None:
    edge.reply = asking(order, takes=lambda _: False)
    assert edge.get(target, method, body=b"x" if method == "POST" else None).status == 200
    slow = edge.seen_by(Pool.SLOW)
    ports = [instance.port for instance in edge.of(Pool.SLOW)]
    asked = [seen for seen in slow if is_ask(seen)]
    first, second = order.split()
    assert [seen.target for seen in asked] == [f"/-/ask/{first}"] * 3 + [f"/-/ask/{second}"] * 3
    assert sorted(seen.port for seen in asked) == sorted(ports * 2)
    had = [seen for seen in slow if not is_ask(seen)]
    assert [seen.headers["x-slowpool-asks"] for seen in had] == ["idle place", second, "none"]
    assert len({seen.port for seen in had}) == 1


def test_a_refusal_after_the_asks_is_the_clients(edge: Edge) -> None:
    full = answer("full", 503, Retry_After="7", X_Served_By="slow:1")
    edge.reply = asking("place", lambda _: False, lambda _: full)
    response = edge.get("/slow/x", "POST", body=b"x")
    assert (response.status, response.headers["Retry-After"], response.text) == (503, "7", "full")


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_instances_that_are_gone_or_do_not_answer_are_passed_over(
    frail: Edge, target: str, method: str
) -> None:
    left, gone, blocked = frail.of(Pool.SLOW)
    gone.stop()
    release = threading.Event()

    def takes(seen: Seen) -> bool:
        if seen.port == blocked.port:
            release.wait(20)
        return seen.port == left.port

    frail.reply = asking(takes=takes)
    for _ in range(4):  # whatever the order in which they are asked
        assert frail.get(target, method).headers["X-Served-By"] == f"slow:{left.port}"
    release.set()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_ask_that_reaches_nobody_leaves_the_request_where_it_was(frail: Edge, method: str) -> None:
    one, *others = frail.of(Pool.SLOW)
    for other in others:
        other.stop()
    frail.reply = lambda seen: None if is_ask(seen) else asking()(seen)
    for _ in range(4):
        assert frail.get("/slow/x", method).headers["X-Served-By"] == f"slow:{one.port}"


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", b"x"), ("POST", b"x"), ("POST", b"")])
def test_a_taker_that_has_gone_is_replaced(frail: Edge, method: str, body: bytes | None) -> None:
    takers: list[int] = []

    def takes(seen: Seen) -> bool:
        if not takers:
            takers.append(seen.port)
            frail.instances[seen.port].refuse()
        return True

    frail.reply = asking(takes=takes)
    response = frail.get("/slow/x", method, body=body)
    assert response.status == 200
    assert response.headers["X-Served-By"] != f"slow:{takers[0]}"


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", b"x"), ("POST", b"x"), ("POST", b"")])
def test_only_a_get_is_tried_again_when_its_taker_dies_with_it(
    frail: Edge, target: str, method: str, body: bytes | None
) -> None:
    ran: list[Seen] = []

    def then(seen: Seen) -> bytes | None:
        ran.append(seen)
        return None if len(ran) == 1 else who(seen)

    frail.reply = asking(then=then)
    assert frail.get(target, method, body=body).status == (200 if method == "GET" else 502)
    assert len(ran) == (2 if method == "GET" else 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_instance_can_ask_only_for_what_nginx_still_allows(edge: Edge, method: str) -> None:
    edge.reply = lambda seen: NO if is_ask(seen) else redirect("@ask_idle")
    assert edge.get("/slow/x", method).status == 404
    assert sum(not is_ask(seen) for seen in edge.seen) == 2
    for location in ("@asked", "@ask_", "@ask_more"):
        edge.reply = lambda seen: redirect(location)  # noqa: B023  # used here
        edge.seen.clear()
        assert edge.get("/slow/x", method).status >= 400
        assert len(edge.seen) == 1


def test_no_ask_is_allowed_for_a_websocket_or_a_body_that_nginx_does_not_keep(edge: Edge) -> None:
    edge.reply = lambda _: redirect("@ask_idle")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert edge.get("/slow/x", headers=upgrade).status == 404
    assert edge.get("/slow/upload", "PUT", body=b"x").status == 200
    assert [seen.headers.get("x-slowpool-asks") for seen in edge.seen] == [None, None]


def test_the_access_log_has_the_request_once(edge: Edge) -> None:
    edge.reply = asking(takes=is_other(edge))
    response = edge.get("/slow/x?secret", "POST", body=b"x", headers={"X-Request-ID": "logged-once"})
    edge.nginx.wait_for_output("logged-once")
    (line,) = [line for line in edge.nginx.output.splitlines() if "logged-once" in line]
    entry = json.loads(line)
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/slow/x", 200)
    assert entry["instance"] == response.headers["X-Served-By"]


@needs_openssl
@pytest.mark.parametrize("limit", [0, 9])
def test_a_request_of_a_client_counts_once_over_http_1_and_http_2(tmp_path: Path, limit: int) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    release = threading.Event()

    def then(seen: Seen) -> bytes | None:
        release.wait(20)
        return who(seen)

    with Edge(
        tmp_path / "edge",
        asking("idle place", then=then),
        TLS_CERTIFICATE=certificate,
        TLS_KEY=key,
        SLOW_PER_CLIENT=2,
        CLIENT_CONNECTIONS=limit,
    ) as edge:

        def held() -> int:
            return sum(seen.headers.get("x-slowpool-asks") == "none" for seen in edge.seen)

        with Http2(edge.nginx.https_port, ssl.create_default_context(cafile=certificate)) as client:
            for target in WAYS:
                release.clear()
                edge.seen.clear()
                waiting = [client.ask(target, b"x"), client.ask(target)]
                wait_until(lambda: held() == 2)
                refused = client.answer(client.ask(target))
                assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
                release.set()
                assert [client.answer(one).pool for one in waiting] == ["slow", "slow"]
                wait_until(lambda: client.answer(client.ask(target)).pool == "slow")  # noqa: B023  # waits here
