"""A lifeline: the end of a socket that ends processes."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.pool import is_alive, is_dead

HOLDER = """
import os, subprocess, sys, time
from slowpool.linux import lifeline
child = subprocess.Popen(["sleep", "1000"])
lifeline.hold(int(sys.argv[1]))
if "release" in sys.argv:
    lifeline.release(int(sys.argv[1]))
print(child.pid, flush=True)
if "lock" in sys.argv:
    sum(iter(int, 1))
time.sleep(1000)
"""


def start(there: socket.socket, *how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(there.fileno()), *how]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/app"},
        pass_fds=[there.fileno()],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("how", ["", "lock"])
@pytest.mark.parametrize("end", ["closes", "sends"])
def test_a_process_group_ends_when_the_other_end_closes_or_sends(how: str, end: str) -> None:
    here, there = socket.socketpair()
    with here, there, start(there, how) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        there.close()
        assert process.poll() is None
        assert is_alive(child)
        if end == "closes":
            here.close()
        else:
            here.send(b"x")
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: is_dead(child))


def test_a_process_ends_when_the_other_end_closed_before_it_looked() -> None:
    here, there = socket.socketpair()
    with there:
        here.close()
        with start(there) as process:
            assert process.wait() == -signal.SIGKILL


def test_a_process_that_has_let_go_of_its_lifeline_goes_on() -> None:
    here, there = socket.socketpair()
    with there, start(there, "release") as process:
        assert process.stdout
        child = int(process.stdout.readline())
        here.send(b"x")
        here.close()
        # A signal would have come by the time that a later one does.
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: is_dead(child))
        assert process.poll() is None
        process.kill()
