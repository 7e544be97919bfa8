"""Starting, stopping, and what happens when a part of it dies."""

import asyncio
import http.client
import os
import pty
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from slowpool.config import Pool
from tests.support.basics import ROOT, environment, free_ports, wait_until
from tests.support.client import refuses
from tests.support.gate import Gate
from tests.support.load import Client, Load, Outcome
from tests.support.process import APPS, Process, app_command, app_environment
from tests.support.system import ONE_EACH, Family, System, remove_run, run_to_its_end, system_ports
from tests.support.websocket import websocket

CONTROLLED = "tests.apps.controlled:make_app"


def test_an_accepted_job_is_there_after_a_restart_of_the_whole_system() -> None:
    settings: dict[str, Any] = {**system_ports(ONE_EACH), **ONE_EACH}
    with System(harmed=True, **settings) as first:
        accepted = first.get("/slow_threaded?id=7&n=9", headers={"Prefer": "respond-async"})
        assert accepted.status == 202
        job = accepted.headers["Location"]
        wait_until(lambda: first.get(job).json()["state"] == "done")
        assert first.stop() == 0
        with System(**settings) as second:
            assert second.get(job).json()["state"] == "done"
            assert second.get(f"{job}/result").text.startswith("slow result 7 <")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_what_has_been_accepted_is_answered_while_it_stops(
    gate: Gate, background: ThreadPoolExecutor, number: signal.Signals
) -> None:
    with System(APP=CONTROLLED, FAST_PROCESSES=1) as system:  # /slow/block holds up a slow instance
        answers = [
            background.submit(system.get, gate(path)) for path in ("/wait", "/slow/task", "/slow/block")
        ]
        gate.wait_for(3)
        system.signal(number)
        wait_until(lambda: refuses(system.port))
        gate.open()
        assert [answer.result().text for answer in answers] == ["released"] * 3
        assert system.wait() == 0
        assert "slowpool: draining and stopping" in system.output


@pytest.mark.parametrize(
    "path",
    [
        "/slow/block",
        pytest.param("/slow/task", marks=pytest.mark.long),
        pytest.param("/wait", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_it_says_what_it_waits_for_and_a_second_signal_ends_everything_at_once(
    gate: Gate, background: ThreadPoolExecutor, number: signal.Signals, path: str
) -> None:
    system = System(harmed=True, APP=CONTROLLED, **ONE_EACH)
    with system:
        answer = background.submit(system.get, gate(path))
        gate.wait_for(1)
        system.signal(number)
        state = "does not answer" if path == "/slow/block" else "open requests: 1"
        # The first line may say that a busy instance does not answer; another one follows.
        system.wait_for_output(rf"slowpool: waiting for .*(fast|slow):\d+ \({state}\).*, at most \d+ s; ")
        wait_until(lambda: len(seconds_left(system)) > 1)
        assert seconds_left(system) == sorted(set(seconds_left(system)), reverse=True)
        system.signal(number)
        system.wait()
        assert "slowpool: stopping at once after a second signal" in system.output
        assert "Traceback" not in system.output
        assert not answer.exception() or isinstance(answer.exception(), OSError)
    for port in (system.port, system.admin_port, *system.instances("fast"), *system.instances("slow")):
        assert refuses(port)


def test_a_stop_with_nothing_to_wait_for_waits_for_no_request() -> None:
    with System(APP=CONTROLLED, **ONE_EACH) as system:
        assert system.get("/echo").status == 200
        assert system.stop() == 0
        assert "open requests" not in system.output


def seconds_left(system: System) -> list[int]:
    """What it has said that it waits at most."""
    return list(
        map(int, re.findall(r"^slowpool: waiting for .*, at most (\d+) s", system.output, re.MULTILINE))
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_an_instance_that_gets_signals_until_it_has_gone_ends_without_a_traceback(
    number: signal.Signals,
) -> None:
    for _ in range(5):
        command = app_command(Pool.ALL, free_ports())
        with Process(command, APPS, app_environment(APPS, {"APP": CONTROLLED})) as instance:
            instance.wait_for_output(" is ready$")
            while instance.running:
                instance.signal(number)
                time.sleep(0.0002)  # a flood of them would fill asyncio's buffer
            assert instance.wait() in (0, -number)
            assert "Traceback" not in instance.output


def test_an_open_websocket_does_not_hold_up_the_stop_and_is_closed_with_going_away() -> None:
    async def talk(system: System) -> int | None:
        async with websocket(f"ws://127.0.0.1:{system.port}/talk") as connection:
            await connection.write_message("hello")
            assert await connection.read_message() == "hello"
            system.signal(signal.SIGINT)
            assert await connection.read_message() is None
            return connection.close_code

    with System(APP=CONTROLLED, **ONE_EACH) as system:
        assert asyncio.run(talk(system)) == 1001
        assert system.wait() == 0


def test_open_streams_of_the_fast_pool_are_cut_when_the_system_stops(gate: Gate) -> None:
    with System(APP="tests.apps.streams:make_app", STREAM_DRAIN_SECONDS=0.5, **ONE_EACH) as system:
        client = http.client.HTTPConnection("127.0.0.1", system.port, timeout=30)
        client.request("GET", gate("/events"))
        events = client.getresponse()
        assert events.readline() == b"data: 0\n"
        assert system.stop() == 0  # otherwise nginx would wait for longer than the drain timeout
        with pytest.raises(http.client.IncompleteRead):
            events.read()
        client.close()


@pytest.mark.slow
@pytest.mark.long
def test_an_instance_that_grows_too_large_is_drained_and_replaced() -> None:
    with System(
        APP="tests.apps.leaking:make_app", SLOW_PROCESSES=1, INSTANCE_MAX_RSS_BYTES=200 << 20
    ) as system:
        before = {port: system.pid_of("fast", port) for port in system.instances("fast")}
        with Load(system.port, [Client("GET", "/ok", 50)]) as load:
            port = int(system.get("/leak?megabytes=300").headers["X-Served-By"].partition(":")[2])
            line = system.wait_for_output(rf"fast:fast-{port} has \d+ bytes .*: restarting it\"")
            assert int(re.findall(r"\d{6,}", line)[0]) > 200 << 20
            wait_until(lambda: system.pid_of("fast", port) not in (0, before[port]))
            wait_until(lambda: system.get("/ok").headers["X-Served-By"] == f"fast:{port}")
        assert {request.status for request in load.requests} == {200}
        (other,) = set(before) - {port}
        assert system.pid_of("fast", other) == before[other]


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'serve' in sys.orig_argv: time.sleep(1000)  # before it can handle a signal\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    system = System(harmed=True, **ONE_EACH)
    try:
        socket_of_supervisor = ROOT / ".run" / str(system.port) / "supervisor.sock"
        wait_until(socket_of_supervisor.exists, 110)
        system.family.note_sessions()
        assert system.stop() == 0
        assert " is EXITED" not in system.output
    finally:
        system.__exit__(None, None, None)


def test_a_stop_without_the_socket_of_supervisor_leaves_nothing() -> None:
    with System(APP=CONTROLLED, **ONE_EACH) as system:
        (ROOT / ".run" / str(system.port) / "supervisor.sock").unlink()
        assert system.stop() == 0


def test_a_terminal_that_is_closed_ends_everything() -> None:
    with System(harmed=True, **ONE_EACH) as system:
        system.signal(signal.SIGHUP)
        system.wait()


@pytest.mark.parametrize("name", ["HTTP_PORT", "ADMIN_PORT", "FAST_PORT", "SLOW_PORT"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_one_line_and_nothing_starts(name: str, address: str) -> None:
    port = free_ports(2)
    with socket.create_server((address, port)):
        done = run_to_its_end(ROOT, **{name: port})
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        rf"slowpool: port {port} \({name}\) is not available: Address already in use; "
        rf"choose another, such as {name}=\d+ \./deploy/local\n",
        done.stderr,
    )


def test_two_settings_with_one_port_are_one_line_and_nothing_starts() -> None:
    port = free_ports()
    done = run_to_its_end(HTTP_PORT=port, ADMIN_PORT=port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"slowpool: port {port} (ADMIN_PORT) is not available: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_setting_is_one_line_and_nothing_starts() -> None:
    done = run_to_its_end(SLOW_QUEUE="many")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("slowpool: SLOW_QUEUE=many: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_program_that_cannot_run_ends_everything_with_its_reason() -> None:
    system = System(harmed=True, APP="tests.apps.late_failure:make_app", **ONE_EACH)
    try:
        assert system.wait(timeout=110) == 1
        lines = system.output.splitlines()
        assert any("RuntimeError: the model is missing" in line for line in lines)
        assert any(re.search(r"\S+ cannot be kept running: shutting everything down", line) for line in lines)
        assert "Fault" not in system.output
        assert lines[-1] == "slowpool: stopped because a program could not run; the lines above say why"
    finally:
        system.__exit__(None, None, None)


def test_nginx_that_is_killed_comes_back_and_leaves_nothing() -> None:
    with System(**ONE_EACH) as system:
        killed = psutil.Process(int(system.program("nginx")["pid"]))
        orphans = killed.children()
        killed.kill()
        wait_until(lambda: not any(orphan.is_running() for orphan in orphans))

        def answers() -> bool:
            try:
                return system.get("/fast?id=7").status == 200
            except OSError:
                return False

        wait_until(answers)


def test_a_terminal_that_hangs_up_ends_everything() -> None:
    family = Family()
    processes: dict[str, object] = {"FAST_PROCESSES": 1, "SLOW_PROCESSES": 1}
    settings = {**system_ports(processes), **processes}
    env = {**environment(settings), **family.environment}
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(ROOT / "deploy" / "local", ["deploy/local"], env)
    try:
        output = b""
        while b"slowpool: is up" not in output:
            output += os.read(terminal, 4096)
        family.note_sessions()
        os.close(terminal)
        os.waitpid(pid, 0)
        family.assert_gone()
    finally:
        family.kill()
        remove_run(ROOT, settings)


def test_when_all_fast_instances_but_one_go_at_once_no_request_is_refused(tmp_path: Path) -> None:
    """As when a pool of four replicas is scaled to one: those that refuse have the fewest open requests."""
    clients = [
        Client(method, f"/record?folder={tmp_path}", 40, keeps)
        for method in ("GET", "POST")
        for keeps in (True, False)
    ]
    with System(APP="tests.apps.recording:make_app", FAST_PROCESSES=6, SLOW_PROCESSES=1) as system:
        with Load(system.port, clients * 4) as load:
            for port in system.instances("fast")[1:]:
                system.supervisor("stopProcess", f"fast:fast-{port}", False)
            wait_until(lambda: all(refuses(port) for port in system.instances("fast")[1:]))
            wait_until(lambda: len(load.requests) > 2_000)
        assert not [str(request) for request in load.requests if request.outcome is not Outcome.ANSWERED]
