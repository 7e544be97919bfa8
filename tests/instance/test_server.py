"""An instance from start to end."""

import asyncio
import http.client
import re
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import received, refuses, request
from tests.support.gate import Gate
from tests.support.metrics import value
from tests.support.process import APPS, Instance, app_environment
from tests.support.websocket import websocket

CONTROLLED = "tests.apps.controlled:make_app"
QUEUED = 700
CUT = "cuts 1 connections|500 GET /wait"
"""What the log says when it cuts a request off."""


def test_a_ready_instance_says_so(demo: Instance) -> None:
    assert (demo.get("/-/livez").status, demo.get("/-/livez").text) == (200, "ok")
    assert (demo.get("/-/readyz").status, demo.get("/-/readyz").text) == (200, "ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_instance_ends_at_once_with_status_0(number: signal.Signals) -> None:
    with Instance() as instance:
        instance.signal(number)
        assert instance.wait() == 0
        assert instance.output.splitlines()[-1].endswith(" has stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "left", ["atexit.register(time.sleep, 60)", "threading.Thread(target=time.sleep, args=[60]).start()"]
)
def test_what_keeps_a_stopped_instance_alive_is_ended_by_one_more_signal(
    tmp_path: Path, number: signal.Signals, left: str
) -> None:
    (tmp_path / "lasting.py").write_text(
        f"import atexit, threading, time, tornado.web\n\napp = tornado.web.Application()\n{left}\n"
    )
    expected = "threads are alive after warming up, such as"
    with Instance(path=tmp_path, APP="lasting:app", ends_with=-number, expected=expected) as instance:
        instance.terminate()
        instance.wait_for_output(" has stopped$")
        wait_until(lambda: number not in ignored_signals(instance.pid))
        assert instance.running
        instance.signal(number)
        assert instance.wait() == -number
        assert "Traceback" not in instance.output


def test_an_accepted_request_is_answered_while_the_listener_refuses(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(APP=CONTROLLED) as instance:
        accepted = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        instance.terminate()
        wait_until(lambda: refuses(instance.port))
        assert not accepted.done()
        assert instance.running
        gate.open()
        assert accepted.result().text == "released"
        assert accepted.result().headers["Connection"] == "close"
        assert instance.wait() == 0


def test_a_draining_instance_says_so_on_a_connection_that_it_has(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(APP=CONTROLLED) as instance:
        accepted = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        kept = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=30)
        kept.request("GET", "/-/readyz")
        assert received(kept.getresponse()).text == "ready"
        instance.terminate()
        wait_until(lambda: refuses(instance.port))
        kept.request("GET", "/-/readyz")
        response = received(kept.getresponse())
        assert (response.status, response.text) == (503, "draining")
        assert response.headers["Connection"] == "close"
        gate.open()
        assert accepted.result().status == 200


def test_a_job_in_a_worker_is_answered_while_its_instance_drains(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(Pool.SLOW, APP=CONTROLLED) as instance:
        job = background.submit(instance.get, gate("/slow/task"))
        gate.wait_for(1)
        assert gate.entered != [instance.pid]
        instance.terminate()
        wait_until(lambda: refuses(instance.port))
        gate.open()
        assert job.result().text == "released"
        assert instance.wait() == 0


def test_a_second_sigterm_cuts_what_is_open(gate: Gate, background: ThreadPoolExecutor) -> None:
    with Instance(APP=CONTROLLED, expected=CUT) as instance:
        request = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        instance.terminate()
        instance.wait_for_output("drains 1 connections")
        instance.terminate()
        assert instance.wait() == 0
        assert isinstance(request.exception(), ConnectionError)
        assert "cuts 1 connections after a second signal" in instance.output


def test_a_job_that_a_second_sigterm_cuts_is_answered_502_and_its_worker_killed(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(Pool.SLOW, APP=CONTROLLED, expected=CUT) as instance:
        request = background.submit(instance.get, gate("/slow/task"))
        gate.wait_for(1)
        instance.terminate()
        instance.wait_for_output("drains 1 connections")
        instance.terminate()
        assert instance.wait() == 0
        assert request.result().status == 502
        assert request.result().headers["Retry-After"] is None
        assert request.result().problem()["detail"]
        (worker,) = gate.entered
        assert not Path(f"/proc/{worker}").exists()


def test_a_job_that_waits_when_a_second_sigterm_comes_is_answered_503_and_can_be_sent_again(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    cut = f"{CUT}|cuts 2 connections"
    with Instance(Pool.SLOW, APP=CONTROLLED, SLOW_WORKERS=1, expected=cut) as instance:
        runs = background.submit(instance.get, gate("/slow/task"))
        gate.wait_for(1)
        waits = background.submit(instance.get, gate("/slow/task"))
        wait_until(lambda: value(instance, "slow_jobs_waiting") == 1)
        instance.terminate()
        instance.wait_for_output("drains 2 connections")
        instance.terminate()
        assert instance.wait() == 0
        assert runs.result().status == 502
        assert (waits.result().status, waits.result().headers["Retry-After"]) == (503, "1")
        assert len(gate.entered) == 1


def test_what_is_not_done_when_the_drain_timeout_passes_is_cut(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    with Instance(APP=CONTROLLED, SLOW_TIMEOUT_SECONDS=1, DRAIN_TIMEOUT_SECONDS=4, expected=CUT) as instance:
        request = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        instance.terminate()
        assert instance.wait() == 0
        assert isinstance(request.exception(), ConnectionError)
        assert "cuts 1 connections after 4 s" in instance.output


def test_a_job_that_drains_is_answered_504_at_its_deadline(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    times: dict[str, Any] = {"SLOW_TIMEOUT_SECONDS": 3, "DRAIN_TIMEOUT_SECONDS": 20}
    with Instance(Pool.SLOW, APP=CONTROLLED, expected="whose job is late", **times) as instance:
        request = background.submit(instance.get, gate("/slow/task"))
        gate.wait_for(1)
        instance.terminate()
        assert request.result().status == 504
        assert instance.wait() == 0


def test_what_waits_in_the_accept_queue_of_a_blocked_instance_is_answered(
    gate: Gate, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Tornado accepts 128 connections in a turn of its loop, and a few turns pass before it stops."""
    with Instance(APP=CONTROLLED, FAST_BLOCK_BUDGET_SECONDS=0) as instance:
        blocking = background.submit(instance.get, gate("/slow/block"))
        gate.wait_for(1)
        queued = []
        for _ in range(QUEUED):
            queued.append(http.client.HTTPConnection("127.0.0.1", instance.port, timeout=30))
            queued[-1].request("GET", "/-/livez", headers={"Connection": "close"})
        instance.terminate()
        gate.open()
        assert blocking.result().text == "released"
        assert [received(connection.getresponse()).text for connection in queued] == ["ok"] * QUEUED
        assert instance.wait() == 0


def test_an_instance_that_can_accept_nothing_for_want_of_open_files_drains_all_the_same() -> None:
    expected = "cannot accept a connection, next try in 0.5 s: "  # Tornado's own server would try at once
    with Instance(Pool.FAST, HTTP_SERVER="slowpool", expected=expected) as instance:
        process = psutil.Process(instance.pid)
        _, hard = process.rlimit(resource.RLIMIT_NOFILE)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds(), hard))
        with socket.create_connection(("127.0.0.1", instance.port)):
            instance.wait_for_output("cannot accept a connection")
            instance.terminate()
            assert instance.wait() == 0


@pytest.mark.parametrize("path", ["/talk", "/talk/own-close"])
def test_an_open_websocket_is_closed_with_going_away(path: str) -> None:
    async def talk(instance: Instance) -> int | None:
        async with websocket(f"ws://127.0.0.1:{instance.port}{path}") as connection:
            await connection.write_message("hello")
            assert await connection.read_message() == "hello"
            instance.terminate()
            assert await connection.read_message() is None
            return connection.close_code

    with Instance(APP=CONTROLLED) as instance:
        assert asyncio.run(talk(instance)) == 1001
        assert instance.wait() == 0


@pytest.mark.parametrize("server", ["slowpool", "tornado"])
def test_websockets_whose_clients_went_before_they_opened_are_no_error(server: str) -> None:
    head = (
        "GET /-/status/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with Instance(HTTP_SERVER=server) as instance:
        instance.signal(signal.SIGSTOP)
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", instance.port)) as connection:
                connection.sendall(head.encode())
        instance.signal(signal.SIGCONT)
        assert instance.get("/-/livez").text == "ok"


def test_a_port_that_is_taken_is_one_line_and_exit_status_2() -> None:
    with Instance() as instance:
        status, error = outcome(["--pool=fast", f"--port={instance.port}"])
    assert status == 2
    assert error.startswith(f"slowpool: cannot listen on 127.0.0.1:{instance.port}: ")
    assert len(error.splitlines()) == 1


def test_an_instance_listens_on_loopback_unless_told(demo: Instance) -> None:
    assert not refuses(demo.port)
    assert refuses(demo.port, "127.0.0.2")
    with Instance(Pool.ALL, "--address=0.0.0.0") as everywhere:
        assert not refuses(everywhere.port, "127.0.0.2")


def test_an_instance_can_listen_on_an_address_of_ipv6() -> None:
    with Instance(Pool.ALL, "--address=::1", APP=CONTROLLED) as instance:
        assert request(instance.port, "/client", address="::1").text.startswith("::1 http ")


def test_the_log_has_a_line_for_each_answer_with_the_path_and_without_the_query(
    demo: Instance,
) -> None:
    answer = demo.get("/fast?id=personal")
    line = demo.wait_for_output(answer.headers["X-Request-ID"])
    assert " 200 GET /fast " in line
    assert "personal" not in demo.output


def test_a_client_that_sends_garbage_is_answered_400_and_harms_nobody(demo: Instance) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=30) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert demo.get("/-/livez").status == 200


def test_a_handler_sees_nothing_of_what_a_client_says_of_its_way() -> None:
    claims = [
        *(
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Ssl",
            "X-Forwarded-Protocol",
            "x-forwarded-prefix",
        ),
        *("X-Forwarded-Path", "X-Forwarded-Server", "X-Forwarded", "X-ForwardedFor", "X-FORWARDED-ANYTHING"),
        *(
            "X_Forwarded_For",
            "X_Forwarded-Proto",
            "X-Forwarded_Ssl",
            "Forwarded",
            "X-Scheme",
            "Front-End-Https",
        ),
        *("X-Url-Scheme", "X_Scheme", "X_Real_IP"),
    ]
    kept = {"X-Real-Ip": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    with Instance(Pool.FAST, APP="tests.apps.uploads:make_app") as instance:
        for claim in claims:
            seen = request(instance.port, "/headers", headers={claim: "evil", **kept}).text.split()
            assert sorted(seen) == sorted(["Host", "Accept-Encoding", "X-Request-Id", *kept]), claim


def test_the_client_is_what_nginx_says_of_it(controlled: Instance) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Scheme": "http"}
    assert request(controlled.port, "/client", headers=headers).text.startswith("192.0.2.1 https ")
    assert controlled.get("/client").text.startswith("127.0.0.1 http ")


def outcome(arguments: list[str]) -> tuple[int, str]:
    """The exit status and the stderr of an instance that does not come up."""
    done = subprocess.run(
        [sys.executable, "-m", "slowpool", "serve", *arguments],
        cwd=APPS,
        # Tornado leaves the socket to the garbage collector when the port is taken.
        env={**app_environment(APPS, {}), "PYTHONWARNINGS": "error,ignore::ResourceWarning"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


def ignored_signals(pid: int) -> set[int]:
    """The numbers of the signals that a process ignores."""
    (mask,) = re.findall(r"^SigIgn:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}
