"""``/status/edge``: what nginx answers itself, tries again, hands over and asks for, each counted once."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from slowpool.config import Pool
from tests.support.basics import ROOT, wait_until
from tests.support.client import exchange, request, unanswered
from tests.support.edge_counts import counting, edge_counts, wait_until_counted
from tests.support.nginx import LOCAL, nginx
from tests.support.upstream import HAND_OVER, Answer, Edge, Seen, answer, who


def fast_hands_over(then: Answer) -> Answer:
    return lambda seen: HAND_OVER if seen.pool is Pool.FAST else then(seen)


def dies(_: Seen) -> None:
    """The instance closes the connection."""


@pytest.fixture(scope="module")
def shared(connections: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(
        tmp_path_factory.mktemp("edge"),
        CLIENT_CONNECTIONS=connections,
        SLOW_PER_CLIENT=1,
        SERVER_NAMES="127.0.0.1 x",
        FAST_TIMEOUT_SECONDS=1,
        MAX_BODY_BYTES=1000,
    ) as edge:
        yield edge


@pytest.fixture
def edge(shared: Edge) -> Edge:
    """For tests that lose no instance."""
    shared.reply = who
    shared.seen.clear()
    return shared


@pytest.fixture
def frail(connections: int, tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path, CLIENT_CONNECTIONS=connections) as edge:
        yield edge


def test_all_counts_begin_at_0_and_are_there(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        response = request(server.admin_port, "/status/edge")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        problems = (ROOT / "nginx" / "http" / "problems.conf").read_text()
        titles = problems.partition("map $status $problem_title {")[2].partition("}")[0]
        # 401 is the admin server's only; 499 has no answer.
        statuses = {*re.findall(r"^ +(\d{3}) ", titles, re.MULTILINE), "499"} - {"401"}
        labels = [f'status="{status}"' for status in statuses]
        labels += [
            f'pool="{pool}",status="{status}"' for pool in Pool for status in statuses if pool != "all"
        ]
        wanted = {f"nginx_errors_total{{{label}}} 0" for label in labels}
        wanted |= {f'nginx_second_tries_total{{pool="{pool}"}} 0' for pool in ("fast", "slow")}
        wanted |= {f'nginx_asks_total{{ask="{ask}"}} 0' for ask in ("idle", "place")}
        wanted |= {"nginx_hand_overs_total 0"}
        lines = response.text.splitlines()
        assert {line for line in lines if not line.startswith(("#", "nginx_connections"))} - {""} == wanted
        assert edge_counts(server.admin_port) == {}


def test_each_error_of_nginx_is_counted_once(edge: Edge) -> None:
    port = edge.nginx.port
    expected = {
        "errors 400": 1,
        "errors 404": 1,
        "errors 405": 1,
        "errors 413": 1,
        "errors 414": 1,
        "errors 421": 2,
        "errors 431": 1,
        "errors 501": 1,
        "errors 502 fast": 1,
        "errors 504 fast": 1,
    }
    with counting(edge.nginx, expected):
        assert exchange(port, b"nonsense\r\n\r\n").status == 400
        assert edge.get("/-/readyz").status == 404
        assert edge.get("/x", "TRACE").status == 405
        assert edge.get("/x", "POST", body=b"x" * 1001).status == 413
        assert edge.get("/" + "x" * 9000).status == 414
        assert edge.get("/x", headers={"Host": "evil.example"}).status == 421
        assert edge.get("/status/edge", headers={"Host": "10.0.0.7"}).status == 421
        assert edge.get("/x", headers={"X": "x" * 9000}).status == 431
        head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: x\r\n\r\n"
        assert exchange(port, head).status == 501
        edge.reply = dies
        assert edge.get("/x", "POST").status == 502
        over = Event()
        edge.reply = lambda _: b"" if over.wait(30) else None
        assert edge.get("/x").status == 504
        over.set()


@pytest.mark.parametrize("target", ["/slow/x", "/x"], ids=["slow", "handed over"])
def test_a_slow_request_that_is_refused_or_given_up_is_counted_once(
    edge: Edge, background: ThreadPoolExecutor, target: str
) -> None:
    """Also after a hand over that nginx counts by asking itself: both requests are nginx's."""
    hand_overs = {"hand_overs": 3} if target == "/x" else {}
    over = Event()
    edge.reply = fast_hands_over(lambda _: answer("done") if over.wait(30) else None)
    expected = {"errors 429 slow": 1, "errors 499 slow": 1} | hand_overs
    with counting(edge.nginx, expected):
        # Another client: nginx may notice a little later that the request that it sent itself is over.
        with unanswered(edge.nginx.port, target, client="127.0.0.2"):
            edge.seen_by(Pool.SLOW, 1)
        wait_until(lambda: "499" in edge.nginx.output)
        first = background.submit(edge.get, target)
        edge.seen_by(Pool.SLOW, 2)
        assert edge.get(target).status == 429
        over.set()
        assert first.result().status == 200


def test_a_client_that_sends_more_than_it_may_is_counted(tmp_path: Path) -> None:
    with Edge(tmp_path, CLIENT_RATE=1) as edge:
        statuses = [edge.get("/x").status for _ in range(50)]
        refused = statuses.count(429)
        assert refused + statuses.count(200) == 50
        wait_until_counted(edge.nginx, {"errors 429 fast": refused})


def test_a_request_whose_headers_do_not_come_is_counted(tmp_path: Path) -> None:
    with (
        nginx(tmp_path) as server,
        counting(server, {"errors 408": 1}),
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert connection.recv(1) == b""


def test_what_an_instance_answers_is_not_counted(frail: Edge) -> None:
    """With room for some slow requests: nginx may notice late that one that it sent itself is over."""
    with counting(frail.nginx, {}):
        for path in ("/x", "/slow/x"):
            for status in (200, 400, 404, 408, 413, 421, 429, 499, 500, 502, 503, 504):
                frail.reply = lambda _, status=status: answer("mine", status)  # type: ignore[misc]
                response = frail.get(path)
                assert (response.status, response.text) == (status, "mine")


def test_what_the_admin_server_answers_is_not_counted(edge: Edge) -> None:
    def ask(path: str, **headers: str) -> int:
        return request(edge.nginx.admin_port, path, headers=headers).status

    with counting(edge.nginx, {}):
        assert [ask("/livez"), ask("/status/edge"), ask("/status"), ask("/")] == [200, 200, 200, 302]
        assert [ask("/nothing"), ask("/", Host="evil.example"), ask("/", Host="10.0.0.7")] == [404, 421, 421]


def test_the_public_server_has_no_counts(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        assert edge.get("/status/edge").pool == "fast"
        assert edge.get("/-/counts").status == 404


def test_prometheus_reads_the_counts_by_the_address_of_nginx_and_nothing_else(edge: Edge) -> None:
    for name in ("10.0.0.7:8081", "[fd00::7]:8081"):
        headers = {"Host": name}
        assert "nginx_errors_total" in request(edge.nginx.admin_port, "/status/edge", headers=headers).text
        assert request(edge.nginx.admin_port, "/status", headers=headers).status == 421
    assert request(edge.nginx.admin_port, "/-/counts").status == 404


def test_where_prometheus_has_an_address_of_its_own_it_reaches_nothing_else_of_the_admin_port(
    tmp_path: Path,
) -> None:
    with nginx(tmp_path, where={**LOCAL, "SCRAPE_ADDRESS": "0.0.0.0"}) as server:

        def ask(path: str, method: str = "GET", **headers: str) -> int:
            return request(server.admin_port, path, method, headers=headers, address="127.0.0.2").status

        assert ask("/status/edge") == 200
        assert [ask("/status"), ask("/status/act", "POST"), ask("/livez"), ask("/")] == [421] * 4
        assert [ask("/status/edge", Host=name) for name in ("localhost", "evil.example")] == [421, 421]
        assert [request(server.admin_port, path).status for path in ("/livez", "/status")] == [200, 503]


def test_the_counts_are_behind_the_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse")
    with nginx(tmp_path / "nginx", {"ADMIN_PASSWORD_FILE": tmp_path / "password"}) as server:
        for name in ("localhost", "10.0.0.7"):
            assert request(server.admin_port, "/status/edge", headers={"Host": name}).status == 401


def test_a_request_that_finds_no_instance_is_counted_as_503_after_a_second_try(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        expected = {
            f"{count} {pool}": 2 for pool in ("fast", "slow") for count in ("errors 503", "second_tries")
        }
        with counting(server, expected):
            for target in ("/x", "/slow/x"):
                for method in ("GET", "POST"):
                    assert request(server.port, target, method).status == 503


def test_a_hand_over_to_a_pool_without_an_instance_is_counted_there(frail: Edge) -> None:
    frail.reply = fast_hands_over(who)
    for instance in frail.of(Pool.SLOW):
        instance.stop()
    with counting(frail.nginx, {"hand_overs": 1, "errors 503 slow": 1, "second_tries slow": 1}):
        assert frail.get("/x").status == 503


def test_a_request_that_one_instance_refuses_is_a_second_try_of_its_pool(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        for pool in (Pool.FAST, Pool.SLOW):
            edge.of(pool)[0].stop()
        # Of two requests one meets the instance that has gone; nginx avoids it then.
        with counting(edge.nginx, {"second_tries fast": 1, "second_tries slow": 1}):
            for target in ("/x", "/slow/x"):
                for method in ("GET", "POST"):
                    assert edge.get(target, method).status == 200


def test_a_fast_instance_that_refuses_before_another_hands_over_is_a_second_try_of_the_fast_pool(
    frail: Edge,
) -> None:
    frail.reply = fast_hands_over(who)
    frail.of(Pool.FAST)[0].stop()
    with counting(frail.nginx, {"second_tries fast": 1, "hand_overs": 2}):
        for _ in range(2):
            assert frail.get("/x").pool == "slow"


@pytest.mark.parametrize("target", ["/slow/x", "/x"], ids=["slow", "handed over"])
def test_a_request_for_which_nginx_asks_is_counted_by_what_it_asks_for(edge: Edge, target: str) -> None:
    def reply(seen: Seen) -> bytes | None:
        if seen.target.startswith("/-/ask/"):
            return None  # an ask that fails is no second try
        asks = seen.headers.get("x-slowpool-asks", "none").split()
        return (
            answer("done")
            if asks == ["none"]
            else answer(X_Accel_Redirect=f"@ask_{asks[0]}", X_Slowpool_Elapsed="1.250")
        )

    edge.reply = fast_hands_over(reply)
    hand_overs = {"hand_overs": 1} if target == "/x" else {}
    with counting(edge.nginx, {"asks idle": 1, "asks place": 1} | hand_overs):
        assert edge.get(target).text == "done"
