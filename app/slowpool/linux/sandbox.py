"""Irrevocable restrictions on a slow instance, its workers and their children.

All processes of a container have one user, so file modes do not separate them; the kernel does. A task, or
an attacker who controls one, gets no Unix socket, and so cannot reach supervisor's, and makes no system call
that looks into another process. Where Landlock has scopes (Linux 6.12, and an engine that allows it), it can
neither signal another process nor read its memory or environment in /proc. Root loses its capabilities too,
except those about files and ports: they overrule Landlock in part, and Linux lets no process look into one
that has more of them (ptrace(2)).
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

from slowpool.linux.libc import libc

# linux/prctl.h, linux/seccomp.h, linux/landlock.h
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_ABI_WITH_SCOPES = 6
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2

# linux/capability.h, linux/prctl.h
CAPABILITY_VERSION, PR_CAPBSET_DROP = 0x20080522, 24
KEPT_CAPABILITIES = {0, 1, 3, 4, 10}
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID: what root serves may be another user's files; NET_BIND_SERVICE."""

# linux/bpf_common.h: load a word of struct seccomp_data, compare, return
LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4
ARGUMENTS_AT = 16, 24
"""The low half of each, on these processors: all that the kernel takes of an int."""

SOCKET_TYPE = 0xF
"""The bits of a socket's type that are not flags."""

# Architecture (linux/audit.h). Then ptrace, process_vm_readv, process_vm_writev, pidfd_getfd,
# perf_event_open, bpf, kcmp, get_robust_list, process_madvise, process_mrelease, and io_uring_setup, since a
# ring opens sockets without the call. Then socket and socketpair. Then prlimit64, move_pages, migrate_pages.
SYSTEM_CALLS = {
    "x86_64": (
        0xC000003E,
        (101, 310, 311, 438, 298, 321, 312, 274, 440, 448, 425),
        (41, 53),
        (302, 279, 256),
    ),
    "aarch64": (
        0xC00000B7,
        (117, 270, 271, 438, 241, 280, 272, 100, 440, 448, 425),
        (198, 199),
        (261, 239, 238),
    ),
}
X32_NUMBERS = 0x40000000
"""x86_64 has the same calls a second time, from this number on."""


def enter() -> bool:
    """Restrict this process; returns whether Landlock is part of it.

    Raises OSError where Linux refuses. Does nothing on other systems and other processors.
    """
    if not _is_known_system():
        return False
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))  # without it only root may do the rest
    scoped = _scope()
    instructions = _filter(*SYSTEM_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("HP", len(instructions), ctypes.addressof(code))  # struct sock_fprog
    _check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))
    _drop_capabilities()
    avoid_unix_sockets()
    return scoped


def part() -> None:
    """Separate this process, whose parent has entered the sandbox, from its parent and its siblings.

    All else it has from its parent. Raises OSError where Linux refuses.
    """
    if _is_known_system():
        _scope()
    avoid_unix_sockets()


def avoid_unix_sockets() -> None:
    """Have multiprocessing start processes without them. Its default since Python 3.14 needs one."""
    if sys.version_info >= (3, 14):
        import multiprocessing

        if multiprocessing.get_start_method(allow_none=True) in (None, "forkserver"):
            multiprocessing.set_start_method("spawn", force=True)


def _is_known_system() -> bool:
    return sys.platform == "linux" and platform.machine() in SYSTEM_CALLS


def _filter(
    architecture: int, refused: tuple[int, ...], sockets: tuple[int, int], own: tuple[int, ...]
) -> list[bytes]:
    """The seccomp filter: seccomp(2). Another architecture has other numbers, so its calls are refused."""
    refuse, forbid = REFUSE | errno.EPERM, REFUSE | errno.EACCES
    socket_call, pair_call = sockets
    return [
        _instruction(LOAD, ARCHITECTURE_AT),
        _instruction(EQUAL, architecture, 1, 0),
        _instruction(RETURN, refuse),
        _instruction(LOAD, NUMBER_AT),
        _instruction(AT_LEAST, X32_NUMBERS, 0, 1),
        _instruction(RETURN, refuse),
        *(
            part
            for call in refused
            for part in (_instruction(EQUAL, call, 0, 1), _instruction(RETURN, refuse))
        ),
        # A socket of another family.
        _instruction(EQUAL, socket_call, 0, 4),
        _instruction(LOAD, ARGUMENTS_AT[0]),
        _instruction(EQUAL, socket.AF_UNIX, 0, 1),
        _instruction(RETURN, forbid),
        _instruction(RETURN, ALLOW),
        # A pair that stays connected: one end of a pair of datagram sockets could be connected to any path,
        # and for a Unix socket SOCK_RAW is SOCK_DGRAM.
        _instruction(EQUAL, pair_call, 0, 6),
        _instruction(LOAD, ARGUMENTS_AT[1]),
        _instruction(AND, SOCKET_TYPE),
        _instruction(EQUAL, socket.SOCK_STREAM, 2, 0),
        _instruction(EQUAL, socket.SOCK_SEQPACKET, 1, 0),
        _instruction(RETURN, forbid),
        _instruction(RETURN, ALLOW),
        # For the caller itself, 0, only: with a limit of CPU time one could end another process.
        *(
            part
            for call in own
            for part in (
                _instruction(EQUAL, call, 0, 4),
                _instruction(LOAD, ARGUMENTS_AT[0]),
                _instruction(EQUAL, 0, 1, 0),
                _instruction(RETURN, refuse),
                _instruction(RETURN, ALLOW),
            )
        ),
        _instruction(RETURN, ALLOW),
    ]


def _instruction(code: int, value: int, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    """struct sock_filter"""
    return struct.pack("HBBI", code, skip_if_true, skip_if_false, value)


def _scope() -> bool:
    """Have Landlock forbid this process to signal or trace any but its descendants: landlock(7)."""
    if libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1) < LANDLOCK_ABI_WITH_SCOPES:
        return False  # an older kernel, or the engine's own filter refuses
    # struct landlock_ruleset_attr
    rules = struct.pack("QQQ", 0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL)
    fd = _check(libc.syscall(LANDLOCK_CREATE_RULESET, rules, len(rules), 0))
    _check(libc.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    os.close(fd)
    return True


def _drop_capabilities() -> None:
    """Drop all capabilities of this process but KEPT_CAPABILITIES: capabilities(7)."""
    for number in set(range(64)) - KEPT_CAPABILITIES:
        # If it is not permitted, PR_SET_NO_NEW_PRIVS has the same effect.
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(struct.calcsize("6I"))
    _check(libc.capget(header, sets))
    kept = sum(1 << number for number in KEPT_CAPABILITIES)
    low = [held & kept for held in struct.unpack("6I", sets.raw)[:3]]  # effective, permitted, inheritable
    _check(libc.capset(header, struct.pack("6I", *low, 0, 0, 0)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
