"""What a worker cannot do, and what it still can."""

import errno
import os
import platform
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from slowpool.linux import sandbox
from tests.apps import zoo
from tests.support.pool import Pool, with_pool
from tests.support.sandbox import needs_landlock, needs_root, needs_sandbox

pytestmark = needs_sandbox

HIGH_BIT = 1 << 32
"""Of the upper half of an argument, of which the kernel takes nothing where it wants an int."""


def outcomes(*calls: Sequence[Any], **settings: Any) -> list[Any]:
    """What each task, called with its arguments, returns in a worker, or the name of its error number."""
    found: list[Any] = []

    async def scenario(pool: Pool) -> None:
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


def test_a_worker_makes_none_of_the_calls_that_see_into_other_processes() -> None:
    _, refused, _, _ = sandbox.SYSTEM_CALLS[platform.machine()]
    calls = [(zoo.calls, number, -1, -1, -1, -1, -1, -1) for number in refused]
    assert set(outcomes(*calls)) == {"EPERM"}
    assert "EPERM" not in outcomes(*calls, slow_sandbox=False)  # but that they are wrong


@pytest.mark.parametrize("call", zoo.NUMBERS)
def test_a_worker_sees_nothing_of_another_process_by_a_call_as_it_is_meant(call: str, other: int) -> None:
    assert outcomes((zoo.looks_into, other, call)) == ["EPERM"]
    if os.geteuid() == 0:
        assert outcomes((zoo.looks_into, other, call), slow_sandbox=False) == [None]


def test_a_worker_makes_calls_about_one_process_only_for_itself(other: int) -> None:
    _, _, _, own = sandbox.SYSTEM_CALLS[platform.machine()]
    for pid in (other, other | HIGH_BIT):
        assert set(outcomes(*((zoo.calls, number, pid, -1, -1, -1, -1, -1) for number in own))) == {"EPERM"}
    itself = [(zoo.calls, number, 0, -1, -1, -1, -1, -1) for number in own]
    assert "EPERM" not in outcomes(*itself, (zoo.looks_into, 0, "move_pages"))


def test_a_worker_sets_no_limits_but_its_own(other: int) -> None:
    calls = [(zoo.limits_cpu_of, other), (zoo.limits_cpu_of, 0)]
    assert outcomes(*calls) == ["EPERM", None]
    assert outcomes(calls[0], slow_sandbox=False) == [None]


def test_a_worker_has_pairs_of_streams_and_none_of_datagram_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(5)
        datagrams = [
            (zoo.opens_a_pair, kind, str(tmp_path / "socket"))
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)
        ]
        assert outcomes(*datagrams) == ["EACCES", "EACCES"]
        assert outcomes(*datagrams, slow_sandbox=False) == ["sent", "sent"]
        assert listener.recv(100) == b"from the pair"
    streams = [(zoo.opens_a_pair, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)]
    assert outcomes(*streams) == [None, None]


@pytest.mark.parametrize(
    "more", [0, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC, 0xFFFF_FFF0, 1 << 32, -1 << 32]
)
def test_of_all_numbers_a_pair_has_only_two_kinds(more: int) -> None:
    """What the kernel takes of the kind is the lowest four bits of the lower half."""
    _, _, (_, pair), _ = sandbox.SYSTEM_CALLS[platform.machine()]
    found = outcomes(*((zoo.calls, pair, socket.AF_UNIX, kind | more, 0, 0) for kind in range(16)))
    allowed = [kind for kind in range(16) if found[kind] != "EACCES"]
    assert allowed == [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]
    assert {found[kind] for kind in allowed} <= {"EFAULT", "EINVAL"}  # there is no place for the two


def test_the_upper_half_of_a_family_hides_no_unix_socket() -> None:
    _, _, (number, _), _ = sandbox.SYSTEM_CALLS[platform.machine()]
    calls = [
        (zoo.calls, number, socket.AF_UNIX | more, socket.SOCK_STREAM, 0) for more in (HIGH_BIT, -HIGH_BIT)
    ]
    assert outcomes(*calls) == ["EACCES", "EACCES"]
    assert outcomes(*calls, slow_sandbox=False) == [None, None]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_pair_that_a_worker_has_stays_connected(kind: socket.SocketKind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        assert outcomes((zoo.opens_a_pair, kind, str(tmp_path / "socket"))) == ["EISCONN"]


@needs_landlock
def test_a_worker_neither_signals_nor_reads_a_process_that_is_none_of_its_own(other: int) -> None:
    calls = [(zoo.signals, other), (zoo.reads_the_memory_of, other)]
    assert outcomes(*calls) == ["EPERM", "EACCES"]
    assert outcomes(*calls, slow_sandbox=False) == [None, None]


def test_a_worker_still_has_processes_pairs_of_sockets_and_the_network() -> None:
    still = [zoo.uses_processes, zoo.opens_what_is_not_a_unix_socket, zoo.ends_its_child]
    assert outcomes(*([task] for task in still)) == [[1, 2], "connected", -signal.SIGTERM]


def test_of_what_root_may_do_a_worker_keeps_what_is_about_files() -> None:
    (status,) = outcomes((zoo.own_capabilities,))
    kept = sum(1 << number for number in sandbox.KEPT_CAPABILITIES)
    assert not any(held & ~kept for held in status.values())


@needs_root
def test_without_the_sandbox_roots_worker_sees_into_all(other: int, tmp_path: Path) -> None:
    (seen,) = outcomes((zoo.sees, other), slow_sandbox=False)
    assert {"environ", "maps", "mem", "exe"} <= set(seen)
