"""What one client may take, whose word is believed, and which names are known."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.basics import wait_until
from tests.support.browser import chromium, needs_chromium
from tests.support.client import Response, exchange, request
from tests.support.gate import Gate
from tests.support.system import System

ALICE, BOB, CAROL, PROXY = (
    f"127.0.0.{number}" for number in (5, 6, 7, 9)
)  # Linux takes all of 127.0.0.0/8 for its own
RATE = 40


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    password = tmp_path_factory.mktemp("edge") / "password"
    password.write_text("correct horse\n")
    with System(
        APP="tests.apps.controlled:make_app",
        SLOW_PER_CLIENT=2,
        CLIENT_RATE=RATE,
        CLIENT_CONNECTIONS=3,
        TRUSTED_PROXIES=f"{PROXY}, 192.0.2.0/24",
        SERVER_NAMES="127.0.0.1, *.shop.example",
        ADMIN_PASSWORD_FILE=password,
    ) as system:
        yield system


@pytest.fixture(autouse=True)
def _rested(edge: System) -> None:
    """The buckets of the clients are empty again."""
    for client in (ALICE, BOB, PROXY, "127.0.0.1"):
        wait_until(lambda: edge.get("/body", source=client).status == 200)  # noqa: B023  # waits here


def assert_refused(response: Response, detail: str) -> None:
    assert (response.status, response.headers["Retry-After"]) == (429, "1")
    assert response.pool == ""
    assert detail in response.problem()["detail"]


def test_one_client_cannot_fill_the_slow_pool_and_frees_its_place_by_going(
    edge: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    first = [background.submit(edge.get, gate("/slow/task"), source=ALICE) for _ in range(2)]
    gate.wait_for(2)
    for method in ("GET", "POST"):
        assert_refused(edge.get(gate("/slow/task"), method, source=ALICE), "as many requests open")
    assert edge.get("/body", source=ALICE).status == 200
    others = background.submit(edge.get, gate("/slow/task"), source=BOB)
    gate.open()
    assert [answer.result().status for answer in (*first, others)] == [200] * 3
    assert edge.get("/slow/echo", source=ALICE).status == 200


def test_one_client_has_no_more_requests_open_than_it_may(
    edge: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    open_requests = [background.submit(edge.get, gate("/wait"), source=ALICE) for _ in range(3)]
    gate.wait_for(3)
    assert_refused(edge.get("/body", source=ALICE), "as many requests open")
    assert_refused(edge.get("/slow/echo", source=ALICE), "as many requests open")
    assert edge.get("/body", source=BOB).status == 200
    gate.open()
    assert [answer.result().status for answer in open_requests] == [200] * 3


def test_one_client_sends_no_more_requests_a_second_than_it_may(edge: System) -> None:
    answers = [edge.get("/body", source=CAROL) for _ in range(4 * RATE)]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(answers) - len(refused) > RATE // 2
    assert_refused(refused[0], "more requests a second")
    assert_refused(refused[-1], "more requests a second")
    assert edge.get("/body", source=BOB).status == 200


@pytest.mark.parametrize(
    ("source", "headers", "seen"),
    [
        (ALICE, {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}, f"{ALICE} http"),
        (PROXY, {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}, "198.51.100.7 https"),
        (PROXY, {"X-Forwarded-For": "198.51.100.7"}, "198.51.100.7 http"),
        (PROXY, {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "gopher"}, "198.51.100.7 http"),
        # The client has put the first one in front itself.
        (PROXY, {"X-Forwarded-For": "203.0.113.1, 198.51.100.7"}, "198.51.100.7 http"),
        (PROXY, {"X-Forwarded-For": "198.51.100.7, 192.0.2.5"}, "198.51.100.7 http"),
        (PROXY, {"X-Forwarded-For": "nonsense"}, f"{PROXY} http"),
        (PROXY, {"X-Real-IP": "198.51.100.7"}, f"{PROXY} http"),
    ],
)
def test_a_forwarded_address_is_believed_from_a_trusted_proxy_only(
    edge: System, source: str, headers: dict[str, str], seen: str
) -> None:
    assert edge.get("/client", source=source, headers=headers).text == f"{seen} 127.0.0.1:{edge.port}"


def test_the_clients_of_a_trusted_proxy_are_limited_each_for_itself(
    edge: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    def ask(target: str, client: str) -> Response:
        return edge.get(target, source=PROXY, headers={"X-Forwarded-For": client})

    first = [background.submit(ask, gate("/slow/task"), "198.51.100.7") for _ in range(2)]
    gate.wait_for(2)
    assert ask("/slow/echo", "198.51.100.7").status == 429
    assert ask("/slow/echo", "198.51.100.8").status == 200
    gate.open()
    assert [answer.result().status for answer in first] == [200, 200]


@pytest.mark.parametrize(
    ("name", "status"),
    [("127.0.0.1", 200), ("www.shop.example", 200), ("WWW.SHOP.example:8080", 200), ("shop.example", 421),
     ("evil.example", 421), ("www.shop.example.evil.example", 421), ("localhost", 421)],
)  # fmt: skip
@pytest.mark.parametrize("target", ["/echo", "/slow/echo"])
def test_a_name_that_is_not_ours_is_421(edge: System, target: str, name: str, status: int) -> None:
    response = edge.get(target, headers={"Host": name})
    assert response.status == status
    if status == 421:
        assert response.pool == ""
        assert response.problem()["title"] == "Misdirected Request"


def test_a_request_without_a_name_is_421_and_the_name_in_its_target_counts(edge: System) -> None:
    assert exchange(edge.port, b"GET /echo HTTP/1.0\r\n\r\n").status == 421
    target = b"GET http://%s/echo HTTP/1.1\r\nHost: %s\r\n\r\n"
    assert exchange(edge.port, target % (b"a.shop.example", b"evil.example")).status == 200
    assert exchange(edge.port, target % (b"evil.example", b"a.shop.example")).status == 421


def test_more_headers_than_a_request_may_have_are_refused(edge: System) -> None:
    assert edge.get("/echo", headers={f"X-{n}": "x" for n in range(90)}).status == 200
    assert edge.get("/echo", headers={f"X-{n}": "x" for n in range(110)}).status in (400, 431)


@pytest.mark.parametrize("path", ["/status", "/status/live", "/status/static/status.js"])
@pytest.mark.parametrize(
    "credentials", [None, "admin:wrong", "root:correct horse", "admin:", "admin:correct"]
)
def test_the_admin_server_asks_for_its_password(edge: System, path: str, credentials: str | None) -> None:
    response = admin(edge, path, credentials)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="slowpool"'
    assert response.problem()["title"] == "Unauthorized"


@pytest.mark.parametrize("credentials", [None, "admin:correct horse"])
def test_the_root_of_the_admin_server_leads_to_the_status_page(edge: System, credentials: str | None) -> None:
    response = admin(edge, "/", credentials)
    assert (response.status, response.headers["Location"]) == (302, "/status")
    assert admin(edge, "/nothing", "admin:correct horse").status == 404
    assert admin(edge, "/", "admin:correct horse", {"Host": "evil.example"}).status == 421


def test_the_admin_server_lets_in_whoever_knows_it_and_the_health_check(edge: System) -> None:
    assert admin(edge, "/status", "admin:correct horse").status == 200
    assert admin(edge, "/livez", None).text == "ok"


@needs_chromium
def test_the_status_page_is_live_for_whoever_knows_the_password(edge: System) -> None:
    with chromium() as browser:
        page = browser.new_context(
            http_credentials={"username": "admin", "password": "correct horse"}
        ).new_page()
        page.goto(f"http://localhost:{edge.admin_port}/status")
        expect(page.locator("#connection")).to_have_text("● live")


def test_the_password_is_in_no_file_that_others_can_read(edge: System) -> None:
    folder = Path(edge.folder) / ".run" / str(edge.port) / "nginx" / "rendered"
    found = [file for file in folder.iterdir() if "correct horse" in file.read_text()]
    assert [(file.name, file.stat().st_mode & 0o777) for file in found] == [("admin_password", 0o600)]
    assert "correct horse" not in edge.output


@pytest.mark.parametrize(
    "name", ["evil.example", f"evil.example:{8081}", "169.254.1.1", "localhost.evil.example"]
)
def test_a_name_that_is_made_to_lead_to_the_admin_server_reads_nothing(edge: System, name: str) -> None:
    response = admin(edge, "/status", "admin:correct horse", {"Host": name})
    assert response.status == 421
    assert response.problem()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "ops.shop.example"])
def test_the_admin_server_has_the_names_of_this_machine_and_of_the_settings(edge: System, name: str) -> None:
    host = f"{name}:{edge.admin_port}"
    assert admin(edge, "/status", "admin:correct horse", {"Host": host}).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://localhost:1", 403), ("http://localhost", 403)],
)
@pytest.mark.parametrize("path", ["/status/live", "/status/instance"])
def test_a_websocket_of_a_page_from_elsewhere_is_refused(
    edge: System, path: str, origin: str, status: int
) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Origin": origin,
    }
    assert admin(edge, path, "admin:correct horse", handshake).status == status


def admin(
    system: System, path: str, credentials: str | None, headers: dict[str, str] | None = None
) -> Response:
    """One request to the admin server."""
    own: dict[str, Any] = {}
    if credentials is not None:
        own["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    return request(system.admin_port, path, headers={**(headers or {}), **own})
