"""What runs in a worker process: jobs from a socket, one at a time, until it is closed or killed.

It imports the standard library alone, so that a worker is soon ready.
"""

import contextlib
import errno
import faulthandler
import fcntl
import logging
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from slowpool.linux import sandbox

REQUEST = struct.Struct("!QQ")
"""Number of the job, bytes of the pickled ``(task, args)`` that follow."""

REPLY = struct.Struct("!cQQQ")
"""Kind of the reply, number of the job, resident bytes of this process, bytes of the pickle that follows."""

LOWEST_NICE = 19

READY = b"S"  # nothing follows; its number is 0
RESULT = b"R"  # the result
RAISED = b"E"  # (the exception's pickle, its traceback as text)
NOT_PICKLABLE = b"U"  # (what cannot be pickled and why, the traceback as text)


def main(
    channel_fd: int,
    lifeline_fd: int,
    nice: int,
    cpus: Sequence[int],
    memory_bytes: int,
    sandboxed: bool,
) -> None:
    """Serve jobs on ``channel_fd``. ``cpus`` empty and ``memory_bytes`` 0 mean no limit."""
    _die_with_the_instance(lifeline_fd)
    priority = _Priority(nice)
    if cpus:
        os.sched_setaffinity(0, cpus)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    _volunteer_for_the_oom_killer()
    if sandboxed:
        sandbox.enter()
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")

    # A broken connection is the instance's way to end a worker that is just starting.
    with contextlib.suppress(ConnectionError), socket.socket(fileno=channel_fd) as channel:
        _keep_to_this_process(channel)
        pid = os.getpid()
        _send(channel, READY, 0, b"")
        while header := _receive(channel, REQUEST.size):
            number, size = REQUEST.unpack(header)
            priority.apply()
            try:
                request = _receive(channel, size)
            except MemoryError as error:  # before it has read anything
                _discard(channel, size)
                kind, body = _raised(error)
            else:
                kind, body = _run(request)
                del request
            if os.getpid() != pid:
                _end_forked_child(channel, kind, body)
            _flush()
            _send(channel, kind, number, body)


def _keep_to_this_process(channel: socket.socket) -> None:
    """Leave the channel to no process that a task starts: what that sent would be taken for a reply."""
    channel.set_inheritable(False)
    os.register_at_fork(before=_flush, after_in_child=channel.close)  # or both would print what is buffered


def _end_forked_child(channel: socket.socket, kind: bytes, body: bytes) -> NoReturn:
    """End a child that a task has forked and that came back from the task: the job is its parent's.

    What the child raised is printed, as Python does for what nobody catches.
    """
    if kind != RESULT:
        _, text = pickle.loads(body)  # nosec B301  # its own
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
    if channel.fileno() < 0:  # else no hook ran at its fork, and what is buffered may be its parent's
        _flush()
    os._exit(0 if kind == RESULT else 1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have closed it
            stream.flush()


def _run(request: bytearray) -> tuple[bytes, bytes]:
    """Run one job; the kind of its reply, and the reply's pickle.

    SystemExit and the like are not caught: they end the process, as anywhere else.
    """
    try:
        task, args = pickle.loads(request)  # nosec B301  # from the instance
        result = task(*args)
    except Exception as error:
        return _raised(error)
    try:
        return RESULT, pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except MemoryError as error:
        return _raised(error)
    except Exception as error:
        what = f"the result, of type {_type_name(result)}, cannot be pickled: {error}"
        return NOT_PICKLABLE, pickle.dumps((what, traceback.format_exc()))


def _raised(error: Exception) -> tuple[bytes, bytes]:
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(pickled)  # nosec B301  # its own; an __init__ with other arguments than args fails only here
    except Exception as why:
        what = f"the exception, of type {_type_name(error)}, cannot be pickled: {why}"
        return NOT_PICKLABLE, pickle.dumps((what, text))
    return RAISED, pickle.dumps((pickled, text))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _send(channel: socket.socket, kind: bytes, number: int, body: bytes) -> None:
    channel.sendall(REPLY.pack(kind, number, _resident_bytes(), len(body)))
    channel.sendall(body)


def _receive(channel: socket.socket, size: int) -> bytearray:
    """Read ``size`` bytes; an empty result when the instance has closed the channel."""
    data = bytearray(size)
    view, received = memoryview(data), 0
    while received < size:
        count = channel.recv_into(view[received:])
        if not count:
            return bytearray()
        received += count
    return data


def _discard(channel: socket.socket, size: int) -> None:
    while size and (data := channel.recv(min(size, 65536))):
        size -= len(data)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:  # no /proc: the peak is the next best
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _die_with_the_instance(lifeline_fd: int) -> None:
    """Have the kernel kill this process group when the instance's end of the lifeline closes.

    Nothing is ever sent on it, so SIGIO, of which SIGKILL takes the place, means that the instance is
    gone: fcntl(2), F_SETSIG. It needs no thread, and works while a task holds the interpreter's lock.
    """
    lifeline = socket.socket(fileno=os.dup(lifeline_fd))
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        try:
            if not lifeline.recv(1):  # it closed before the kernel was asked to watch it
                os.killpg(0, signal.SIGKILL)
        except BlockingIOError:
            pass
    lifeline.detach()


def _volunteer_for_the_oom_killer() -> None:
    """When memory runs out, the kernel takes a worker and not the instance: proc(5), oom_score_adj."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:  # not Linux, or not allowed: the kernel then goes by size
        pass


def _has_cgroup_weight(cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> bool:
    """Whether the scheduling group of this process is a cgroup: cgroups(7), and of version 2 cpu.weight."""
    try:
        with open(cgroups) as file:
            lines = file.read().splitlines()
    except OSError:  # not Linux
        return False
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(",") and path != "/":
            return True
        names = path.strip("/").split("/")
        folders = [os.path.join(root, *names[:depth]) for depth in range(len(names) + 1)]
        if not controllers and any(os.path.exists(f"{folder}/cpu.weight") for folder in folders):
            return True
    return False


class _Priority:
    """The niceness of this process and of its scheduling group.

    With CONFIG_SCHED_AUTOGROUP a session is scheduled as one group, and nice counts only inside it:
    sched(7), "The autogroup feature". A worker has a session of its own, so both are set. In a cgroup with a
    weight, as in a container, there are no autogroups; at the lowest niceness a worker is then SCHED_IDLE,
    since Linux takes a CPU that runs nothing else for an idle one. With autogroups that makes fast requests
    slower: p99 with slow work on every core was 2.5 instead of 1.4 times that without (300/s, medians of nine
    alternating rounds, 2 cores).
    """

    def __init__(self, nice: int) -> None:
        os.nice(max(0, nice - os.nice(0)))
        if nice == LOWEST_NICE and _has_cgroup_weight():
            with contextlib.suppress(OSError):  # where a sandbox around all of it refuses
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._group_nice: int | None = nice
        self.apply()

    def apply(self) -> None:
        """Set the group's niceness, unless it is set: unprivileged, only ten such writes a second pass."""
        if self._group_nice is None:
            return
        try:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(self._group_nice))
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return  # tried again before the next job
        self._group_nice = None
