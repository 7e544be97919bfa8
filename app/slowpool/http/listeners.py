"""Listeners: sockets on which connections are accepted, until they are closed without a reset."""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("slowpool")

BACKLOG = 1024
"""Connections that the kernel holds for an instance that is busy for a moment."""

ACCEPTS = 128
"""How many connections are accepted in one iteration of the loop."""

PAUSE_SECONDS = 0.5
"""Time until the next try when there are no open files or memory left to accept a connection."""

NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

MAX_TRIES, TRY_SECONDS = 50, 0.02
"""How often the end of listening is tried, while new connections get in between."""

SHORT_BACKLOG = 16
"""While listening ends; the queue is full with one more. With so many clients whose ACK is to come the kernel
uses SYN cookies, and such clients cannot be seen."""

SYN_RECV = "03"
"""In /proc/net/tcp: the kernel has answered a client's SYN, and waits for its ACK."""

QUEUE_AT = 24
"""tcpi_unacked in struct tcp_info: of a listener, how many connections wait in its queue."""


class Listeners:
    """Gives each connection that is accepted, and its address, to ``take``."""

    def __init__(self, take: Callable[[socket.socket, Any], None]) -> None:
        self._take = take
        self._sockets: list[socket.socket] = []

    def add(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket."""
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._sockets.append(listener)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def close(self) -> None:
        """Accept what the kernel has accepted, and close the sockets without a reset."""
        listeners, self._sockets = self._sockets, []  # no pause of theirs is followed by more accepting
        for listener in listeners:
            asyncio.get_running_loop().remove_reader(listener)
            for _ in range(MAX_TRIES):
                while self._accept(listener):
                    pass
                with _occupied(listener) as is_occupied:
                    if is_occupied and not _half_open(listener):
                        listener.close()
                        break
                listener.listen(BACKLOG)
                await asyncio.sleep(TRY_SECONDS)
            listener.close()

    def _accept(self, listener: socket.socket) -> bool:
        """Accept what waits; whether there may be more."""
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                log.error("cannot accept a connection, next try in %g s: %s", PAUSE_SECONDS, error.strerror)
                loop.remove_reader(listener)
                loop.call_later(PAUSE_SECONDS, self._resume, listener)
                return False
            accepted.setblocking(False)
            self._take(accepted, address)
        return True

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)


@contextlib.contextmanager
def _occupied(listener: socket.socket) -> Iterator[bool]:
    """Fill the queue of a listener with our own connections; yields whether that succeeded.

    While the queue is full the kernel drops what comes, so nothing is reset when the listener closes. A
    client whose connection was dropped tries again a second later. (A filter on the socket does the same, but
    takes a capability.)
    """
    if sys.platform != "linux":
        yield True
        return
    listener.listen(SHORT_BACKLOG)
    with contextlib.ExitStack() as stack:
        try:
            filling = [stack.enter_context(socket.socket(listener.family)) for _ in range(SHORT_BACKLOG + 1)]
        except OSError:  # there is no room for them
            yield True
            return
        for own in filling:
            own.setblocking(False)
            own.connect_ex(listener.getsockname())
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_AT + 4)
        (queued,) = struct.unpack_from("I", info, QUEUE_AT)
        yield queued == len(filling) and all(map(_is_connected, filling))


def _is_connected(own: socket.socket) -> bool:
    try:
        own.getpeername()
    except OSError:
        return False
    return True


def _half_open(listener: socket.socket) -> bool:
    """Whether a client has been answered whose connection is not in the queue yet: proc_net_tcp(5)."""
    port = f":{listener.getsockname()[1]:04X}"
    table = "/proc/net/tcp6" if listener.family == socket.AF_INET6 else "/proc/net/tcp"
    with contextlib.suppress(OSError), open(table) as lines:
        return any(fields[3] == SYN_RECV and fields[1].endswith(port) for fields in map(str.split, lines))
    return False
