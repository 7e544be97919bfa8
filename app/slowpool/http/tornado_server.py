"""TornadoServer: Tornado's own HTTP server, with the interface of Server, for comparison and for doubt."""

import contextlib
import socket

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream

from slowpool.http.connection import Limits
from slowpool.http.guard import RequestGuard
from slowpool.http.server import BACKLOG


class TornadoServer:
    """Gives the requests on its connections to ``delegate``."""

    def __init__(self, delegate: HTTPServerConnectionDelegate, limits: Limits) -> None:
        self._server = _GuardedServer(
            delegate,
            xheaders=True,
            max_header_size=limits.head_bytes,
            max_body_size=limits.body_bytes,
            max_buffer_size=max(limits.detached_bytes, limits.body_bytes),
            idle_connection_timeout=limits.idle_seconds,
        )
        self._listeners: list[socket.socket] = []

    @property
    def connections(self) -> int:
        """How many are open; without those that no longer speak HTTP."""
        return len(self._server._connections)

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket."""
        listener.listen(BACKLOG)
        self._server.add_sockets([listener])
        self._listeners.append(listener)

    async def stop_listening(self) -> None:
        """Accept what the kernel has accepted, and no more: its connections would be reset."""
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection, address = listener.accept()
                    connection.setblocking(False)
                    self._server.handle_stream(IOStream(connection), address)
        self._server.stop()

    async def close_all(self) -> None:
        """Close every connection at once."""
        await self._server.close_all_connections()


class _GuardedServer(HTTPServer):
    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return RequestGuard(super().start_request(server_conn, request_conn))
