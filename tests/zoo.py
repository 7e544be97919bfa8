"""Tasks that misbehave, each in one way."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time


def add(a: int, b: int) -> int:
    """The one that behaves."""
    return a + b


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def sleeps_for_ever() -> None:
    while True:
        time.sleep(1000)


def spins_for_ever() -> None:
    while True:
        pass


def holds_the_interpreter_lock_for_ever() -> None:
    sum(iter(int, 1))


def ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)
    sleeps_for_ever()


def changes_signal_handlers() -> str:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return "changed"


def closes_its_output() -> str:
    sys.stdout.close()
    return "closed"


def exits() -> None:
    os._exit(3)


def asks_the_system_to_exit() -> None:
    sys.exit(4)


def segfaults() -> None:
    ctypes.string_at(0)


def recurses() -> None:
    recurses()


def allocates(size: int = 10 * 2**30) -> int:
    return len(b"x" * size)


def prints_garbage(size: int = 100 * 2**20) -> str:
    block = bytes(range(256)) * 256
    for _ in range(size // len(block) // 2):
        os.write(1, block)
        os.write(2, block)
    return "printed"


def spawns_children_and_threads(path: str) -> None:
    """Leave a child in the group and one in a session of its own, their pids in the file, and hang."""
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    children = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
    for _ in range(3):
        threading.Thread(target=sleeps_for_ever).start()
    with open(path + ".part", "w") as file:
        file.write(" ".join(str(child.pid) for child in children))
    os.rename(path + ".part", path)
    sleeps_for_ever()


def returns_what_cannot_be_pickled() -> object:
    return threading.Lock()


class AwkwardError(Exception):
    """Its ``__init__`` takes other arguments than its ``args``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class ErrorWithALock(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())


def raises_an_awkward_error() -> None:
    raise AwkwardError(7, "awkward")


def raises_what_cannot_be_pickled() -> None:
    raise ErrorWithALock


def raises(text: str = "on purpose") -> None:
    raise ValueError(text)


def echoes(data: bytes) -> bytes:
    return data


def says(text: str) -> None:
    print(text)


def own_pid() -> int:
    return os.getpid()


def open_files() -> list[str]:
    """What the file descriptors of the worker stand for."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the one of listdir itself
            continue
    return names


def priority() -> tuple[int, str, set[int], bool]:
    """Niceness, the autogroup's line, the CPUs, and whether it leads a session of its own."""
    try:
        with open("/proc/self/autogroup") as file:
            autogroup = file.read()
    except OSError:
        autogroup = ""
    return os.nice(0), autogroup, os.sched_getaffinity(0), os.getsid(0) == os.getpid()


_model_loads = 0


def uses_a_model() -> int:
    """How often this worker has loaded its model: module state stays from job to job."""
    global _model_loads
    if not _model_loads:
        _model_loads += 1
    return _model_loads
