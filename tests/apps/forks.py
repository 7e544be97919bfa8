"""Tasks that fork, each in one way."""

import ctypes
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from slowpool.workers.wire import ITEM, REPLY, RESULT
from tests.apps import zoo

FORKS: dict[str, Callable[[], int]] = {
    "os.fork": os.fork,
    "os.forkpty": lambda: os.forkpty()[0],
    "libc": lambda: int(ctypes.PyDLL(None).fork()),  # Python does not notice
}


def forks(by: str) -> str:
    """The child comes back from the task as well, before its parent."""
    if child := FORKS[by]():
        os.waitpid(child, 0)
        return "the parent's"
    return "the child's"


def leaves_a_child(by: str, seconds: float) -> int:
    """The pid of a child that comes back from the task after some time."""
    if child := FORKS[by]():
        return child
    time.sleep(seconds)
    return 0


def leaves_a_grandchild(by: str, path: str) -> None:
    """As a daemon starts: a process without a parent, in a session of its own; its pid is in the file."""
    if child := FORKS[by]():
        os.waitpid(child, 0)
        return
    if not FORKS["libc"]():
        os.setsid()
        Path(path).write_text(str(os.getpid()))
        time.sleep(1000)
    while not os.path.exists(path):
        time.sleep(0.001)
    os._exit(0)


def forks_and_raises(by: str) -> int:
    """The exit status of a child that raises."""
    if child := FORKS[by]():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    raise ValueError("the child's")


def forks_and_exits(by: str) -> int:
    if child := FORKS[by]():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(5)


def forks_and_executes_nothing(by: str) -> int:
    if child := FORKS[by]():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.execvp("slowpool-no-such-program", ["slowpool-no-such-program"])
    raise AssertionError("unreachable")


def forks_and_forks_again(by: str) -> str:
    """As a daemon does, and both children come back."""
    if child := FORKS[by]():
        os.waitpid(child, 0)
        return "the parent's"
    if child := FORKS[by]():
        os.waitpid(child, 0)
    return "a child's"


def forks_in_a_thread() -> str:
    thread = threading.Thread(target=forks, args=["os.fork"])
    thread.start()
    thread.join()
    return "the parent's"


class ForksWhenPickled:
    def __init__(self, by: str) -> None:
        self._by = by

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (forks(self._by),)


def returns_what_forks_when_pickled(by: str) -> ForksWhenPickled:
    return ForksWhenPickled(by)


def uses_forked_processes() -> list[int]:
    context = multiprocessing.get_context("fork")
    failing = context.Process(target=zoo.raises)
    failing.start()
    failing.join()
    with ProcessPoolExecutor(2, mp_context=context) as processes:
        return [failing.exitcode or 0, *processes.map(abs, [-1, -2])]


def starts_programs() -> list[str]:
    """With a function of ours between fork and exec; with one that raises; with all files left open."""
    outputs = [subprocess.check_output(["echo", "one"], preexec_fn=os.setsid, text=True)]
    try:
        subprocess.run(["echo", "two"], preexec_fn=zoo.raises)
    except subprocess.SubprocessError:
        outputs.append("raised")
    names = subprocess.check_output(["ls", "-l", "/proc/self/fd"], close_fds=False, text=True)
    channel, _ = channel_and_number()
    name = os.readlink(f"/proc/self/fd/{channel.fileno()}")
    return [*outputs, "inherited" if name in names else "not inherited"]


def says_and_forks(by: str) -> None:
    """Print before, and in the child after, while the output is buffered."""
    print("said before")
    if child := FORKS[by]():
        os.waitpid(child, 0)
    else:
        print("said by the child")


def channel_and_number() -> tuple[socket.socket, int]:
    """The worker's own state: its channel, and the number of the job that runs."""
    frame = sys._getframe()
    while "sender" not in frame.f_locals:
        assert frame.f_back
        frame = frame.f_back
    sender = frame.f_locals["sender"]
    return sender._channel, sender.number


def _bytes(what: str, number: int) -> bytes:
    """What a process might send as, or instead of, the reply to the job with this number."""
    body = pickle.dumps("another's")
    header = REPLY.pack(RESULT, False, number, 0, len(body))
    guess = REPLY.pack(RESULT, False, number + 1 & 2**64 - 1, 0, len(body))
    absurd = REPLY.pack(RESULT, False, number, 0, 2**62)
    return {
        "a byte": b"R",
        "half a header": header[:11],
        "a reply": header + body,
        "a reply to the next job": guess + body,
        "an item": ITEM + header[1:] + body,
        "half a reply": header + body[:-3],
        "two replies": 2 * (header + body),
        "rubbish": bytes(range(256)) * 64,
        "an absurd size": absurd,
        "an absurd size and much": absurd + bytes(64 << 20),
        "another kind": b"S" + header[1:] + body,
    }[what]


def has_a_child_send(what: str) -> str:
    """A child of which Python does not know sends ``what`` into its worker's channel, before the reply."""
    channel, number = channel_and_number()
    if child := FORKS["libc"]():
        os.waitpid(child, 0)
        return "the parent's"
    try:
        channel.sendall(_bytes(what, number))
    finally:
        os._exit(0)


def leaves_a_thread_that_sends(what: str, path: str) -> str:
    """A thread sends ``what`` once the file ``path`` is there; then it makes ``path.sent``."""
    channel, number = channel_and_number()
    data = _bytes(what, number)

    def send() -> None:
        while not os.path.exists(path):
            time.sleep(0.01)
        channel.sendall(data)
        Path(f"{path}.sent").touch()

    threading.Thread(target=send, daemon=True).start()
    return "its own"


def lets_a_thread_send(path: str, seconds: float) -> str:
    """Have the thread of an earlier job send, and return some time after that."""
    Path(path).touch()
    while not os.path.exists(f"{path}.sent"):
        time.sleep(0.01)
    time.sleep(seconds)
    return "the next job's"
