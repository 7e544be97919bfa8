"""What a request carries through nginx: its id, its client, its upgrade to a WebSocket."""

import asyncio
import contextlib
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.basics import wait_until
from tests.support.client import refuses, request
from tests.support.gate import Gate
from tests.support.system import System
from tests.support.websocket import websocket


@pytest.mark.parametrize("request_id", ["a", "7f9c-2.B_x", "x" * 64])
@pytest.mark.parametrize(
    "target", ["/fast?id=7", "/slow_threaded?id=7&n=9", "/report?id=7&n=9", "/nothing", "/-/livez"]
)
def test_a_harmless_request_id_is_kept(system: System, target: str, request_id: str) -> None:
    response = system.get(target, headers={"X-Request-ID": request_id})
    assert response.headers.get_all("X-Request-ID") == [request_id]


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 65, 'a"b', "a,b", "é", "${jndi:x}", "a\tb"])
@pytest.mark.parametrize(
    "target", ["/fast?id=7", "/slow_threaded?id=7&n=9", "/report?id=7&n=9", "/nothing", "/-/livez"]
)
def test_any_other_request_id_is_replaced(system: System, target: str, request_id: str) -> None:
    response = system.get(target, headers={"X-Request-ID": request_id})
    (given,) = response.headers.get_all("X-Request-ID") or []
    assert re.fullmatch(r"[0-9a-f]{32}", given)


def test_a_request_without_an_id_gets_one_of_its_own(system: System) -> None:
    given = {system.get("/fast?id=7").headers["X-Request-ID"] for _ in range(5)}
    assert len(given) == 5


@pytest.mark.parametrize("target", ["/fast?id=secret", "/slow_threaded?id=secret&n=9"])
def test_a_request_has_one_line_in_the_log_with_what_nginx_and_the_instance_know(
    system: System, target: str
) -> None:
    response = system.get(target)
    request_id = response.headers["X-Request-ID"]
    entry = system.access_log(request_id)
    path = target.partition("?")[0]
    assert entry["path"] == path
    assert entry["status"] == 200
    assert entry["method"] == "GET"
    assert entry["client"] == "127.0.0.1"
    pool, port = response.headers["X-Served-By"].split(":")
    assert entry["upstream"] == f"127.0.0.1:{port}"
    assert entry["upstream_status"] == "200"
    assert float(entry["upstream_seconds"]) <= entry["seconds"] + 0.001
    assert (entry["instance"], entry["handed_over_by"]) == (f"{pool}:{port}", "")
    assert entry["route"] == path
    ran = path == "/slow_threaded"
    times = re.findall(r"dur=([\d.]+)", response.headers["Server-Timing"]) if ran else []
    logged = [entry[name] for name in ("queue_seconds", "run_seconds")]
    assert logged == ([pytest.approx(float(ms) / 1000, abs=0.0002) for ms in times] if ran else [None, None])
    assert system.output.count(request_id) == 1
    assert "secret" not in system.output


def test_a_request_is_logged_while_supervisor_does_nothing(system: System) -> None:
    supervisor = int(system.supervisor("getPID"))
    os.kill(supervisor, signal.SIGSTOP)
    try:
        system.get("/fast?id=7", headers={"X-Request-ID": "without-supervisor"})
        system.access_log("without-supervisor")
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_the_instance_sees_the_client_and_not_what_the_client_says_of_itself(sturdy: System) -> None:
    spoofed = {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    response = sturdy.get("/client", headers=spoofed)
    assert response.text == f"127.0.0.1 http 127.0.0.1:{sturdy.port}"


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_a_body_reaches_the_instance_whole(sturdy: System, size: int) -> None:
    assert sturdy.get("/body", "POST", body=b"x" * size).text == f"{size} bytes"


def test_a_websocket_passes_through_to_the_fast_pool(sturdy: System) -> None:
    async def talk() -> str:
        async with websocket(f"ws://127.0.0.1:{sturdy.port}/talk", {"X-Request-ID": "my-talk"}) as connection:
            for message in ("hello", "ü" * 100_000, b"\x00\xff"):
                await connection.write_message(message, binary=isinstance(message, bytes))
                assert await connection.read_message() == message
            assert connection.headers
            return connection.headers["X-Served-By"]

    served_by = asyncio.run(talk())
    pool, _, port = served_by.partition(":")
    assert pool == "fast"
    assert int(port) in sturdy.instances("fast")
    assert sturdy.access_log("my-talk")["status"] == 101


def test_a_websocket_of_an_instance_that_stops_is_closed_with_going_away(sturdy: System) -> None:
    async def talk(system: System) -> int | None:
        async with websocket(f"ws://127.0.0.1:{system.port}/talk") as connection:
            assert connection.headers
            name = "fast:" + connection.headers["X-Served-By"].replace(":", "-")
            assert system.supervisor("stopProcess", name)
            assert await connection.read_message() is None
            return connection.close_code

    assert asyncio.run(talk(sturdy)) == 1001
    stopped = next(port for port in sturdy.instances("fast") if refuses(port))
    assert sturdy.supervisor("startProcess", f"fast:fast-{stopped}")


def test_a_websocket_that_reaches_an_instance_which_drains_goes_to_another_one(
    sturdy: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    """Over a connection that nginx has kept open."""

    async def served_by(count: int) -> set[str]:
        instances = set()
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(count):
                url = f"ws://127.0.0.1:{sturdy.port}/talk"
                connection = await opened.enter_async_context(websocket(url))
                await connection.write_message("hello")
                assert await connection.read_message() == "hello"
                assert connection.headers
                instances.add(connection.headers["X-Served-By"])
        return instances

    waiting = background.submit(sturdy.get, gate("/wait"))
    gate.wait_for(1)
    (port,) = [port for port in sturdy.instances("fast") if sturdy.pid_of("fast", port) in gate.entered]
    name = f"fast:fast-{port}"
    for _ in range(20):  # connections that nginx keeps
        list(background.map(lambda _: sturdy.get("/path"), range(8)))
    assert sturdy.supervisor("stopProcess", name, False)
    wait_until(lambda: refuses(port))
    assert f"fast:{port}" not in asyncio.run(served_by(20))
    gate.open()
    assert waiting.result().text == "released"
    wait_until(lambda: sturdy.supervisor("getProcessInfo", name)["statename"] == "STOPPED")
    assert sturdy.supervisor("startProcess", name)


def test_the_admin_port_is_bound_to_loopback_only(system: System) -> None:
    assert request(system.admin_port, "/livez").text == "ok"
    assert request(system.port, "/fast?id=7", address="127.0.0.2").status == 200
    assert refuses(system.admin_port, "127.0.0.2")
    for pool in ("fast", "slow"):
        for port in system.instances(pool):
            assert refuses(port, "127.0.0.2")


def test_what_the_admin_port_does_not_know_is_404_as_a_problem(system: System) -> None:
    response = request(system.admin_port, "/fast?id=7")
    assert response.status == 404
    assert response.problem()
