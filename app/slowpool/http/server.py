"""Server: HTTP/1.1 for one delegate, on listening sockets."""

import asyncio
import socket
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate

from slowpool.http.connection import Connection, Limits
from slowpool.http.listeners import Listeners
from slowpool.http.turns import Turns


class Server:
    """Gives the requests on its connections to ``delegate``."""

    def __init__(self, delegate: HTTPServerConnectionDelegate, limits: Limits) -> None:
        self._delegate = delegate
        self._limits = limits
        self._turns = Turns()
        self._listeners = Listeners(self._begin)
        self._beginning: set[asyncio.Task[Any]] = set()
        self._connections: set[Connection] = set()

    @property
    def connections(self) -> int:
        """How many are open, without those that no longer speak HTTP."""
        return len(self._connections)

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket."""
        self._listeners.add(listener)

    async def stop_listening(self) -> None:
        """Accept what the kernel has accepted, and no more."""
        await self._listeners.close()
        if self._beginning:
            await asyncio.wait(self._beginning)

    async def close_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self._connections):
            connection.close()

    def _begin(self, accepted: socket.socket, _: object) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._connection, accepted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _connection(self) -> Connection:
        opened, closed = self._connections.add, self._connections.discard
        return Connection(self._delegate, self._limits, self._turns, opened, closed)
