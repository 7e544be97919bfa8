"""What runs in a worker process: jobs from a channel, one at a time."""

import contextlib
import faulthandler
import fcntl
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from slowpool.linux import sandbox
from slowpool.linux.memory import resident_bytes, volunteer_for_oom_killer
from slowpool.linux.scheduling import Priority
from slowpool.workers import records
from slowpool.workers.wire import NOT_PICKLABLE, RAISED, READY, REPLY, REQUEST, RESULT


def main(
    channel_fd: int,
    lifeline_fd: int,
    nice: int,
    cpus: Sequence[int],
    memory_bytes: int,
    sandboxed: bool,
    log_level: str,
) -> None:
    """Run the jobs that come on ``channel_fd``. ``cpus`` empty and ``memory_bytes`` 0 mean no limit."""
    _die_with_the_instance(lifeline_fd)
    priority = Priority(nice)
    if cpus:
        os.sched_setaffinity(0, cpus)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    volunteer_for_oom_killer()
    if sandboxed:
        sandbox.enter()
    faulthandler.enable()
    records.install(log_level)

    # The instance ends a worker that is still starting by breaking the connection.
    with contextlib.suppress(ConnectionError), socket.socket(fileno=channel_fd) as channel:
        _keep_to_this_process(channel)
        pid = os.getpid()
        _send(channel, READY, 0, b"")
        while header := _receive(channel, REQUEST.size):
            number, size = REQUEST.unpack(header)
            priority.apply()
            try:
                request = _receive(channel, size)
            except MemoryError as error:  # nothing has been read yet
                _discard(channel, size)
                kind, body = _raised(error)
            else:
                kind, body = _run_task(request)
                del request
            if os.getpid() != pid:
                _end_forked_child(channel, kind, body)
            _flush()
            _send(channel, kind, number, body)


def _die_with_the_instance(lifeline_fd: int) -> None:
    """Have the kernel kill this process group when the instance's end of the lifeline closes.

    Nothing is ever sent on the lifeline, so SIGIO, for which SIGKILL is set, means that the instance is gone:
    fcntl(2), F_SETSIG. This needs no thread, and works while a task holds the interpreter's lock.
    """
    lifeline = socket.socket(fileno=os.dup(lifeline_fd))
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            if not lifeline.recv(1):  # it closed before the kernel was asked to watch it
                os.killpg(0, signal.SIGKILL)
    lifeline.detach()


def _keep_to_this_process(channel: socket.socket) -> None:
    """Close the channel in processes that a task starts: what they sent would be taken for a reply."""
    channel.set_inheritable(False)
    # Output that is buffered at the fork would be printed twice.
    os.register_at_fork(before=_flush, after_in_child=channel.close)


def _end_forked_child(channel: socket.socket, kind: bytes, body: bytes) -> NoReturn:
    """End a child that a task has forked and that returned from the task: the job is its parent's.

    An exception of the child is printed, as Python prints one that nobody catches.
    """
    if kind != RESULT:
        _, text = pickle.loads(body)  # nosec B301  # its own
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
    if channel.fileno() < 0:  # otherwise no hook ran at the fork, and the buffered output may be the parent's
        _flush()
    os._exit(0 if kind == RESULT else 1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have closed it
            stream.flush()


def _run_task(request: bytearray) -> tuple[bytes, bytes]:
    """Run one job; returns the kind and the body of the reply.

    SystemExit and the like are not caught: they end the process, as anywhere else.
    """
    try:
        task, args, kwargs = pickle.loads(request)  # nosec B301  # from the instance
        result = task(*args, **kwargs)
    except Exception as error:
        return _raised(error)
    try:
        return RESULT, pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except MemoryError as error:
        return _raised(error)
    except Exception as error:
        reason = f"the result, of type {_type_name(result)}, cannot be pickled: {error}"
        return NOT_PICKLABLE, pickle.dumps((reason, traceback.format_exc()))


def _raised(error: Exception) -> tuple[bytes, bytes]:
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(pickled)  # nosec B301  # its own; fails when __init__ takes other arguments than args
    except Exception as why:
        reason = f"the exception, of type {_type_name(error)}, cannot be pickled: {why}"
        return NOT_PICKLABLE, pickle.dumps((reason, text))
    return RAISED, pickle.dumps((pickled, text))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _send(channel: socket.socket, kind: bytes, number: int, body: bytes) -> None:
    channel.sendall(REPLY.pack(kind, number, resident_bytes(), len(body)))
    channel.sendall(body)


def _receive(channel: socket.socket, size: int) -> bytearray:
    """Read ``size`` bytes; returns none when the instance has closed the channel."""
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
