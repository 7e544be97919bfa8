"""When the tests of the sandbox can run, and a system that refuses a call."""

import ctypes
import os
import platform
import sys
from collections.abc import Sequence

import pytest

from slowpool.linux import sandbox

needs_sandbox = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in sandbox.SYSTEM_CALLS,
    reason="there is a sandbox on Linux, on x86_64 and aarch64, only",
)

needs_landlock = pytest.mark.skipif(
    ctypes.CDLL(None).syscall(sandbox.LANDLOCK_CREATE_RULESET, None, 0, 1) < sandbox.LANDLOCK_ABI_WITH_SCOPES,
    reason="no Landlock that knows scopes here",
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root gives up")


REFUSES = """
import ctypes, errno, os, struct, sys
from slowpool.linux import sandbox as s

filter = [
    s._instruction(s.LOAD, s.NUMBER_AT),
    s._instruction(s.EQUAL, int(sys.argv[1]), 0, 3),
    s._instruction(s.LOAD, s.ARGUMENTS_AT[0]),
    s._instruction(s.EQUAL, int(sys.argv[2]), 0, 1),
    s._instruction(s.RETURN, s.REFUSE | errno.EINVAL),
    s._instruction(s.RETURN, s.ALLOW),
]
code = ctypes.create_string_buffer(b"".join(filter))
libc = ctypes.CDLL(None)
libc.prctl(s.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
program = struct.pack("HP", len(filter), ctypes.addressof(code))
assert libc.prctl(s.PR_SET_SECCOMP, s.SECCOMP_MODE_FILTER, program, 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""


def refusing(call: int, first_argument: int, command: Sequence[str]) -> list[str]:
    """The command where the system refuses that call with EINVAL."""
    return [sys.executable, "-c", REFUSES, str(call), str(first_argument), *command]
