"""AFFINITY: requests of the same client reach the same fast instance."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.upstream import HAND_OVER, Edge, Seen, answer, who

NAME = "__Host-session.id"
CLIENTS = [f"127.0.0.{number}" for number in range(1, 13)]


class Sessions:
    """Instances with sessions in memory: ``/login`` sets a cookie that only the same instance knows."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._owners: dict[str, int] = {}

    def __call__(self, seen: Seen) -> bytes:
        if seen.pool is Pool.SLOW:
            return who(seen)
        if seen.target == "/hand":
            return HAND_OVER
        if seen.target == "/login":
            value = f'"{next(self._numbers)}|x="'
            self._owners[value] = seen.port
            others = f"other=1\r\nSet-Cookie: {NAME}={value}; Expires=Wed, 25 Nov 2026 10:00:00 GMT; Path=/"
            return answer(value, Set_Cookie=f"{others}\r\nSet-Cookie: last={NAME}")
        cookies = seen.headers.get("cookie", "").split("; ")
        mine = next((cookie.partition("=")[2] for cookie in cookies if cookie.startswith(f"{NAME}=")), "")
        name = f"{seen.pool}:{seen.port}"
        return answer("known" if self._owners.get(mine) == seen.port else "unknown", X_Served_By=name)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with Edge(
        tmp_path, Sessions(), count=3, AFFINITY=f"cookie:{NAME}", STREAM_PATHS="/upload", SLOW_PER_CLIENT=0
    ) as edge:
        yield edge


def cookie(edge: Edge) -> dict[str, str]:
    """The headers of a client that has logged in."""
    return {"Cookie": f"x{NAME}=0; {NAME}={edge.get('/login').text}; other=1"}


def test_a_session_in_memory_is_found_again_by_every_kind_of_request(edge: Edge) -> None:
    clients = [cookie(edge) for _ in range(12)]
    for target, method, body in [
        ("/x", "GET", None),
        ("/x", "POST", b"x"),
        ("/x", "PUT", b"x"),
        ("/x", "GET", b"x"),
        ("/upload", "POST", b""),
        ("/upload", "GET", None),
    ]:
        for headers in clients:
            assert edge.get(target, method, body=body, headers=headers).text == "known", (target, method)


def test_a_client_without_the_cookie_goes_to_the_least_busy_instance(edge: Edge) -> None:
    assert set(Counter(edge.get("/x").headers["X-Served-By"] for _ in range(12)).values()) == {4}


def test_a_cookie_from_elsewhere_stays_at_the_instance_that_first_answered_it(edge: Edge) -> None:
    for value in range(6):
        headers = {"Cookie": f"{NAME}={value}"}
        assert len({edge.get("/x", headers=headers).headers["X-Served-By"] for _ in range(5)}) == 1


def test_a_request_that_is_handed_over_keeps_the_client_at_its_instance(edge: Edge) -> None:
    headers = cookie(edge)
    assert edge.get("/hand", headers=headers).pool == "slow"
    assert edge.get("/x", headers=headers).text == "known"


def test_when_an_instance_has_gone_only_its_clients_move_and_they_stay_where_they_are(edge: Edge) -> None:
    clients = [cookie(edge) for _ in range(12)]
    before = [edge.get("/x", headers=headers).headers["X-Served-By"] for headers in clients]
    gone = edge.of(Pool.FAST)[0]
    gone.stop()
    after = [edge.get("/x", headers=headers) for headers in clients]
    assert {response.status for response in after} == {200}
    lost = [name == f"fast:{gone.port}" for name in before]
    assert [response.text == "unknown" for response in after] == lost
    gone.start()
    again = [edge.get("/x", headers=headers).headers["X-Served-By"] for headers in clients]
    assert again == [response.headers["X-Served-By"] for response in after]


def test_an_instance_that_answered_late_keeps_its_clients(tmp_path: Path) -> None:
    sessions = Sessions()

    def late(seen: Seen) -> bytes | None:
        return None if seen.target == "/die" else sessions(seen)

    with Edge(tmp_path, late, count=3, AFFINITY=f"cookie:{NAME}") as edge:
        headers = cookie(edge)
        assert edge.get("/die", "POST", headers=headers).status == 502
        assert edge.get("/x", headers=headers).text == "known"


def test_with_address_a_client_address_stays_at_one_instance(tmp_path: Path) -> None:
    with Edge(tmp_path, count=3, AFFINITY="address", TRUSTED_PROXIES="127.0.0.99") as edge:
        served = {client: {edge.get("/x", source=client).text for _ in range(4)} for client in CLIENTS}
        assert {len(names) for names in served.values()} == {1}
        assert len(set.union(*served.values())) > 1
        for client in CLIENTS:
            forwarded = edge.get("/x", source="127.0.0.99", headers={"X-Forwarded-For": client})
            assert {forwarded.text} == served[client]
        gone = next(
            instance for instance in edge.of(Pool.FAST) if f"fast:{instance.port}" in served[CLIENTS[0]]
        )
        gone.stop()
        for client in CLIENTS:
            moved = edge.get("/x", source=client)
            assert moved.status == 200
            assert ({moved.text} == served[client]) == (f"fast:{gone.port}" not in served[client])
        gone.start()
        assert {edge.get("/x", source=CLIENTS[0]).text} == served[CLIENTS[0]]
