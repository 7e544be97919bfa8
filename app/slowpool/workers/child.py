"""What runs in a worker process: jobs from a channel, one at a time."""

import contextlib
import faulthandler
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from slowpool.linux import lifeline, memory, processes, sandbox
from slowpool.linux.memory import resident_bytes, volunteer_for_oom_killer
from slowpool.linux.scheduling import give_way
from slowpool.workers import progress, records, stack, warm
from slowpool.workers.wire import ITEM, NOT_PICKLABLE, RAISED, READY, REPLY, REQUEST, RESULT, TOO_LARGE

JOINED_BYTES = 64 * 1024
"""Up to this size a frame is sent at once."""


class Options(NamedTuple):
    """Settings of a worker. ``cpus`` empty and ``memory_bytes`` 0 mean no limit."""

    nice: int
    cpus: Sequence[int]
    memory_bytes: int
    sandboxed: bool
    max_result_bytes: int
    log_level: str


class Ends(NamedTuple):
    """File descriptors of a worker: its ends of the channel and the lifeline, and the file that it shares."""

    channel: int
    lifeline: int
    shared: int


def main(ends: tuple[int, int, int], options: tuple[Any, ...], modules: Sequence[str]) -> None:
    """Run a worker that was started afresh: it imports these modules and warms up itself."""
    run(Ends(*ends), Options(*options), modules)


def run(ends: Ends, options: Options, modules: Sequence[str] = ()) -> None:
    """Run the jobs that come on the channel, until the instance closes it."""
    volunteer_for_oom_killer()  # until it has, the process is in its template's group: see end_strays
    os.setsid()
    lifeline.hold(ends.lifeline)
    processes.set_name("slow-worker")
    processes.adopt_orphans()  # so that what a task starts never leaves it
    give_way(options.nice)
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)
    if options.memory_bytes:
        memory.limit(options.memory_bytes)
    if options.sandboxed:
        sandbox.part()
    faulthandler.enable(2)  # sys.stderr may be the application's own object
    stack.answer_signal(ends.shared)
    if modules:
        records.install(options.log_level)
        warm.warm_up([*modules])
    page = progress.open_page(ends.shared)
    # The instance ends a worker that is still starting by breaking the connection.
    with contextlib.suppress(ConnectionError), socket.socket(fileno=ends.channel) as channel:
        _keep_to_this_process(channel)
        own = processes.children() if modules else ()  # a process that was just forked has none
        sender = _Sender(channel, options.max_result_bytes, own)
        sender.send(READY, [])
        while header := _receive(channel, REQUEST.size):
            sender.number, streamed, size = REQUEST.unpack(header)
            page.begin(sender.number)
            try:
                request = _receive(channel, size)
            except MemoryError as error:  # nothing has been read yet
                _discard(channel, size)
                kind, body = _raised(error, options.max_result_bytes)
            else:
                kind, body = _run_task(request, sender, streamed)
                del request
            page.end()
            if not sender.is_own_process():
                _end_forked_child(channel, kind, body)
            flush()
            sender.send(kind, body)
            del body


class _Sender:
    """Sends the frames of the job with this number."""

    def __init__(self, channel: socket.socket, max_result_bytes: int, own: Collection[int]) -> None:
        self.number = 0
        self._own = own  # children that warming up has started
        self._channel = channel
        self.max_result_bytes = max_result_bytes
        self._pid = os.getpid()
        self._bytes_at_start = resident_bytes()  # of a forked worker, those that it shares with the others

    def is_own_process(self) -> bool:
        """Whether this is the worker, and not a process that a task has forked."""
        return os.getpid() == self._pid

    def send(self, kind: bytes, body: Sequence[bytes]) -> None:
        """Send a frame; ``body`` is in pieces."""
        size = sum(map(len, body))
        final = kind != ITEM
        has_children = final and processes.has_living_child(self._own)
        added_bytes = max(0, resident_bytes() - self._bytes_at_start) if final else 0
        header = REPLY.pack(kind, has_children, self.number, added_bytes, size)
        if size <= JOINED_BYTES:
            self._channel.sendall(b"".join([header, *body]))
            return
        self._channel.sendall(header)
        for piece in body:
            self._channel.sendall(piece)

    def send_items(self, items: Iterable[object]) -> None:
        """Send each item as a frame; waits while the instance does not read."""
        for item in items:
            if not self.is_own_process():
                raise RuntimeError("a process that a task has forked has no reader for its items")
            self.send(ITEM, self.pickled("an item", item))

    def pickled(self, what: str, value: object) -> list[bytes]:
        """The pickle of a value in pieces. Raises _Refused."""
        pieces = _Pieces(self.max_result_bytes)
        try:
            pickle.Pickler(pieces, pickle.HIGHEST_PROTOCOL).dump(value)
        except _TooLarge:
            raise _Refused(TOO_LARGE, f"{what}, of type {_type_name(value)},") from None
        except MemoryError:
            raise
        except Exception as error:
            reason = f"{what}, of type {_type_name(value)}, cannot be pickled: {error}"
            raise _Refused(NOT_PICKLABLE, (reason, traceback.format_exc())) from error
        return pieces.pieces


class _TooLarge(Exception):
    """More than SLOW_MAX_RESULT_BYTES."""


class _Refused(Exception):
    """A value that cannot be sent: kind of the reply, and its content."""


class _Pieces:
    """A file that keeps what is written to it, up to a size."""

    def __init__(self, max_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self._left = max_bytes

    def write(self, data: Any) -> None:
        """Keep the data. Raises _TooLarge."""
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        self.pieces.append(bytes(data))


def _keep_to_this_process(channel: socket.socket) -> None:
    """Close the channel in processes that a task starts: what they sent would be taken for a reply."""
    channel.set_inheritable(False)
    # Output that is buffered at the fork would be printed twice.
    os.register_at_fork(before=flush, after_in_child=channel.close)


def _end_forked_child(channel: socket.socket, kind: bytes, body: Sequence[bytes]) -> NoReturn:
    """End a child that a task has forked and that returned from the task: the job is its parent's.

    An exception of the child is printed, as Python prints one that nobody catches.
    """
    if kind == RAISED:
        _, text = pickle.loads(b"".join(body))  # nosec B301  # its own
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
    if channel.fileno() < 0:  # otherwise no hook ran at the fork, and the buffered output may be the parent's
        flush()
    os._exit(0 if kind == RESULT else 1)


def flush() -> None:
    """Write what Python has buffered of this process's output."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have closed it
            stream.flush()


def _run_task(request: bytearray, sender: _Sender, streamed: bool) -> tuple[bytes, list[bytes]]:
    """Run one job and send its items; returns the kind and the body of the reply.

    SystemExit and the like are not caught: they end the process, as anywhere else.
    """
    try:
        task, args, kwargs = pickle.loads(request)  # nosec B301  # from the instance
        result = task(*args, **kwargs)
        if streamed:
            if not isinstance(result, Iterable):
                raise TypeError(f"the task of slowpool.stream returned {_type_name(result)}: use yield")
            try:
                sender.send_items(result)
            finally:
                getattr(result, "close", flush)()
            result = None
        return RESULT, sender.pickled("the result", result)
    except _Refused as refused:
        kind, content = refused.args
        return kind, [pickle.dumps(content)]
    except Exception as error:
        return _raised(error, sender.max_result_bytes)


def _raised(error: Exception, max_bytes: int) -> tuple[bytes, list[bytes]]:
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(pickled)  # nosec B301  # its own; fails when __init__ takes other arguments than args
    except Exception as why:
        reason = f"the exception, of type {_type_name(error)}, cannot be pickled: {why}"
        return NOT_PICKLABLE, [pickle.dumps((reason, text))]
    body = pickle.dumps((pickled, text))
    if len(body) > max_bytes:
        return TOO_LARGE, [pickle.dumps(f"the exception, of type {_type_name(error)},")]
    return RAISED, [body]


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


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
