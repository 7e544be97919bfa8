"""Server: HTTP/1.1 for one delegate, on listening sockets."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys

from tornado.httputil import HTTPServerConnectionDelegate

from slowpool.http.connection import Connection, Limits
from slowpool.http.turns import Turns

BACKLOG = 1024
"""Connections that the kernel holds for an instance that is busy for a moment."""


class Server:
    """Gives the requests on its connections to ``delegate``."""

    def __init__(self, delegate: HTTPServerConnectionDelegate, limits: Limits) -> None:
        self._connections: set[Connection] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._delegate = delegate
        self._limits = limits
        self._turns = Turns()
        self._listeners: list[tuple[socket.socket, asyncio.Server]] = []

    @property
    def connections(self) -> int:
        """How many are open; without those that no longer speak HTTP."""
        return len(self._connections)

    async def wait_until_idle(self) -> None:
        """Return when no connection is open."""
        await self._idle.wait()

    async def listen(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, sock=listener, backlog=BACKLOG)
        self._listeners.append((listener, server))

    async def stop_listening(self) -> None:
        """Accept what the kernel has accepted, and no more: its connections would be reset."""
        loop = asyncio.get_running_loop()
        for listener, server in self._listeners:
            _refuse_new(listener)
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    await loop.connect_accepted_socket(self._connection, connection)
            server.close()
        self._listeners = []

    async def close_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self._connections):
            connection.close()
        await self.wait_until_idle()

    def _connection(self) -> Connection:
        return Connection(self._delegate, self._limits, self._turns, self._add, self._remove)

    def _add(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._idle.clear()

    def _remove(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._idle.set()


def _refuse_new(listener: socket.socket) -> None:
    """Have the kernel drop what comes for a listening socket (Linux), so that its queue does not grow.

    A client that begins to connect is not answered, and begins again a second later, when the socket has gone.
    """
    if sys.platform != "linux":
        return
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # a BPF program: return 0
    program = struct.pack("HL", 1, ctypes.addressof(drop))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


SO_ATTACH_FILTER = 26
"""asm-generic/socket.h"""
