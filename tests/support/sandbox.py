"""When the tests of the sandbox can run."""

import ctypes
import os
import platform
import sys

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
