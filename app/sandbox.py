"""What a slow instance and each worker give up at their start, for good, for all that they start too.

All processes of a container have one user, so file modes keep none from another; the kernel does. A task, or
what has taken one over, gets no Unix socket, and so not supervisor's; it makes no call that looks into
another process. Where Landlock knows scopes (Linux 6.12, and an engine that lets it), it can neither signal
another process nor read its /proc/PID/mem.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

# linux/prctl.h, linux/seccomp.h, linux/landlock.h
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_ABI_WITH_SCOPES = 6
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2

# linux/bpf_common.h: load a word of struct seccomp_data, compare, return
LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, (16, 24)
SOCKET_TYPE = 0xF
"""The bits of a socket's type that are no flags."""

# Architecture (linux/audit.h); then ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, and
# io_uring_setup, since a ring opens sockets without the call; then socket, socketpair and prlimit64.
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (101, 310, 311, 438, 425), (41, 53, 302)),
    "aarch64": (0xC00000B7, (117, 270, 271, 438, 425), (198, 199, 261)),
}
X32_NUMBERS = 0x40000000
"""The same calls by other numbers, on x86_64."""


def enter() -> bool:
    """Give it up; returns whether Landlock is part of it.

    Raises OSError where Linux refuses; elsewhere, and on other processors, does nothing.
    """
    if sys.platform != "linux" or platform.machine() not in SYSTEM_CALLS:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))  # without it only root may do the rest
    scoped = _scope(libc)
    instructions = _filter(*SYSTEM_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("HP", len(instructions), ctypes.addressof(code))  # struct sock_fprog
    _check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))
    if sys.version_info >= (3, 14):  # its own choice, forkserver, talks over a Unix socket
        import multiprocessing

        multiprocessing.set_start_method("spawn")
    return scoped


def _filter(architecture: int, refused: tuple[int, ...], looked_at: tuple[int, int, int]) -> list[bytes]:
    """The seccomp filter: seccomp(2). Another architecture has other numbers, so all it calls is refused."""
    refuse, forbid = REFUSE | errno.EPERM, REFUSE | errno.EACCES
    socket_call, pair_call, limit_call = looked_at
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
        # A pair of streams: one end of a pair of datagram sockets could be connected to any path.
        _instruction(EQUAL, pair_call, 0, 5),
        _instruction(LOAD, ARGUMENTS_AT[1]),
        _instruction(AND, SOCKET_TYPE),
        _instruction(EQUAL, socket.SOCK_DGRAM, 0, 1),
        _instruction(RETURN, forbid),
        _instruction(RETURN, ALLOW),
        # The limits of the caller itself: with a limit of CPU time one could end another process.
        _instruction(EQUAL, limit_call, 0, 3),
        _instruction(LOAD, ARGUMENTS_AT[0]),
        _instruction(EQUAL, 0, 1, 0),
        _instruction(RETURN, refuse),
        _instruction(RETURN, ALLOW),
    ]


def _instruction(code: int, value: int, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    """struct sock_filter"""
    return struct.pack("HBBI", code, skip_if_true, skip_if_false, value)


def _scope(libc: ctypes.CDLL) -> bool:
    """Have Landlock keep this process from signalling or tracing any but its own descendants: landlock(7)."""
    if libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1) < LANDLOCK_ABI_WITH_SCOPES:
        return False  # an older kernel, or the engine's own filter refuses
    rules = struct.pack(
        "QQQ", 0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    )  # struct landlock_ruleset_attr
    fd = _check(libc.syscall(LANDLOCK_CREATE_RULESET, rules, len(rules), 0))
    _check(libc.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    os.close(fd)
    return True


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
