"""What a worker cannot do, and what it still can."""

import ctypes
import errno
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app import sandbox
from app.config import Pool
from app.workers import WorkerPool
from tests import zoo
from tests.client import request
from tests.process import Instance, Process, app_command, app_environment
from tests.support import free_ports
from tests.unit.test_workers import with_pool

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in sandbox.SYSTEM_CALLS,
    reason="there is a sandbox on Linux, on x86_64 and aarch64, only",
)

needs_landlock = pytest.mark.skipif(
    ctypes.CDLL(None).syscall(sandbox.LANDLOCK_CREATE_RULESET, None, 0, 1) < sandbox.LANDLOCK_ABI_WITH_SCOPES,
    reason="no Landlock that knows scopes here",
)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[str]:
    """The path of a Unix socket on which somebody listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        yield str(tmp_path / "socket")


@pytest.fixture
def other() -> Iterator[int]:
    """A process of the same user that is none of the worker's."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def outcomes(*calls: Sequence[Any], **settings: Any) -> list[Any]:
    """What each task, called with its arguments, returns in a worker, or the name of its error number."""
    found: list[Any] = []

    async def scenario(pool: WorkerPool) -> None:
        for task, *args in calls:
            try:
                found.append(await pool.run(task, *args))
            except OSError as error:
                found.append(errno.errorcode[error.errno or 0])

    with_pool(scenario, **settings)
    return found


def test_a_worker_opens_no_unix_socket_by_any_number(listener: str) -> None:
    calls: list[Sequence[Any]] = [(zoo.opens_a_unix_socket, listener)]
    if platform.machine() == "x86_64":
        calls.append((zoo.opens_a_unix_socket_by_its_other_number,))
    assert set(outcomes(*calls)) <= {"EACCES", "EPERM"}
    assert outcomes(calls[0], slow_sandbox=False) == [None]


@pytest.mark.parametrize(("sandboxed", "expected"), [(1, "EACCES"), (0, "connected")])
def test_what_a_worker_answers_does_not_open_one_in_its_instance(
    listener: str, monkeypatch: pytest.MonkeyPatch, sandboxed: int, expected: str
) -> None:
    monkeypatch.setenv("SUPERVISOR_SERVER_URL", f"unix://{listener}")
    with Instance(ROUTES="tests.apps.misbehaving", SLOW_SANDBOX=sandboxed) as instance:
        assert instance.get("/slow/zoo/has_its_instance_call_supervisor").text == expected


def test_a_worker_makes_none_of_the_calls_that_see_into_other_processes() -> None:
    _, refused, _ = sandbox.SYSTEM_CALLS[platform.machine()]
    calls = [(zoo.calls, number, -1, -1, -1, -1, -1, -1) for number in refused]
    assert set(outcomes(*calls)) == {"EPERM"}
    assert "EPERM" not in outcomes(*calls, slow_sandbox=False)  # but that they are wrong


def test_a_worker_sets_no_limits_but_its_own(other: int) -> None:
    calls = [(zoo.limits_cpu_of, other), (zoo.limits_cpu_of, 0)]
    assert outcomes(*calls) == ["EPERM", None]
    assert outcomes(calls[0], slow_sandbox=False) == [None]


def test_a_worker_has_pairs_of_streams_and_none_of_datagram_sockets() -> None:
    calls = [(zoo.opens_a_pair, socket.SOCK_DGRAM), (zoo.opens_a_pair, socket.SOCK_STREAM)]
    assert outcomes(*calls) == ["EACCES", None]
    assert outcomes(*calls, slow_sandbox=False) == [None, None]


@needs_landlock
def test_a_worker_neither_signals_nor_reads_a_process_that_is_none_of_its_own(other: int) -> None:
    calls = [(zoo.signals, other), (zoo.reads_the_memory_of, other)]
    assert outcomes(*calls) == ["EPERM", "EACCES"]
    assert outcomes(*calls, slow_sandbox=False) == [None, None]


def test_a_worker_still_has_processes_pairs_of_sockets_and_the_network() -> None:
    still = [zoo.uses_processes, zoo.opens_what_is_not_a_unix_socket, zoo.ends_its_child]
    assert outcomes(*([task] for task in still)) == [[1, 2], "connected", -signal.SIGTERM]


REFUSES_SECCOMP = """
import ctypes, errno, os, struct, sys
from app import sandbox as s

prctl = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
filter = [
    s._instruction(s.LOAD, s.NUMBER_AT),
    s._instruction(s.EQUAL, prctl, 0, 3),
    s._instruction(s.LOAD, s.ARGUMENTS_AT[0]),
    s._instruction(s.EQUAL, s.PR_SET_SECCOMP, 0, 1),
    s._instruction(s.RETURN, s.REFUSE | errno.EINVAL),
    s._instruction(s.RETURN, s.ALLOW),
]
code = ctypes.create_string_buffer(b"".join(filter))
libc = ctypes.CDLL(None)
libc.prctl(s.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
program = struct.pack("HP", len(filter), ctypes.addressof(code))
assert libc.prctl(s.PR_SET_SECCOMP, s.SECCOMP_MODE_FILTER, program, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_where_the_system_refuses_the_sandbox_the_log_says_so_and_all_else_works(tmp_path: Path) -> None:
    """As an emulator of another processor does."""
    port = free_ports()
    command = [sys.executable, "-c", REFUSES_SECCOMP, *app_command(Pool.ALL, port)[1:]]
    with Process(command, tmp_path, app_environment(tmp_path, {})) as process:
        process.wait_for_output("WARNING .* there is no sandbox, the system refuses it: Invalid argument")
        process.wait_for_output(" is ready$")
        assert request(port, "/slow_threaded?id=7&n=9").status == 200
