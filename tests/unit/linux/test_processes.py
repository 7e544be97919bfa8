"""The processes below this one. Each test is in a process of its own, whose children are only its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from slowpool.linux import processes
from tests.support.basics import ROOT, wait_until
from tests.support.pool import is_dead


def run_alone(test: Callable[[], None]) -> None:
    """Run a function of this module in a new process."""
    script = f"from {__name__} import {test.__name__}; {test.__name__}()"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/app:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def start(*command: str) -> int:
    return subprocess.Popen(command).pid


def lists_children() -> None:
    assert processes.children() == set()
    assert not processes.has_living_child()
    one, other = start("sleep", "1000"), start("sleep", "1000")
    assert processes.children() == {one, other}
    assert processes.has_living_child()
    os.kill(one, signal.SIGKILL)
    wait_until(lambda: is_dead(one))
    assert processes.children() == {one, other}, "a zombie is one"
    assert processes.has_living_child()
    assert processes.kill_children({one})
    wait_until(lambda: is_dead(other))
    assert not processes.has_living_child(), "zombies do not live"
    for pid in (one, other):
        os.waitpid(pid, 0)
    assert processes.children() == set()
    assert not processes.kill_children()


def adopts_orphans() -> None:
    processes.adopt_orphans()
    command = ["env", "-i", "setsid", "--fork", "sh", "-c", "echo $$; exec sleep 1000 >&-"]
    daemon = int(subprocess.check_output(command))
    wait_until(lambda: daemon in processes.children())
    assert processes.has_living_child()
    processes.kill_children()
    assert os.waitpid(daemon, 0) == (daemon, signal.SIGKILL)


def kills_a_group() -> None:
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], process_group=0, stdout=subprocess.PIPE
    )
    assert leader.stdout
    member = int(leader.stdout.readline())
    processes.kill_group(leader.pid)
    wait_until(lambda: is_dead(member))
    assert leader.wait() == -signal.SIGKILL
    processes.kill_group(leader.pid)  # it has gone


def names_itself_and_counts_threads() -> None:
    import threading

    processes.set_name("fifteen letters and more")
    with open("/proc/self/comm") as file:
        assert file.read() == "fifteen letters"[:15] + "\n"
    assert processes.count_threads() == 1
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
    assert processes.count_threads() == 2


def opens_pidfds() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    fd = processes.open_pidfd(child.pid)
    assert fd is not None
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert processes.open_pidfd(child.pid) is None


@pytest.mark.parametrize(
    "test",
    [lists_children, adopts_orphans, kills_a_group, names_itself_and_counts_threads, opens_pidfds],
    ids=lambda test: test.__name__,
)
def test_a_process(test: Callable[[], None]) -> None:
    run_alone(test)


def test_where_there_is_no_proc_children_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[str]:
        raise FileNotFoundError("/proc")

    monkeypatch.setattr(os, "listdir", refuse)
    assert processes.children() == set()
    assert processes.count_threads() == 1


def test_the_cpu_time_of_another_process_grows_while_it_computes_and_is_unknown_once_it_has_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        wait_until(lambda: (processes.cpu_seconds(other.pid) or 0) > 0.1)
        assert processes.cpu_seconds(other.pid) != processes.cpu_seconds(os.getpid())
        other.kill()
    assert processes.cpu_seconds(other.pid) is None
