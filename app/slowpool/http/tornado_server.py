"""TornadoServer: Tornado's own HTTP server, with the interface of Server, for comparison and for doubt."""

import socket
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream

from slowpool.http.connection import Limits
from slowpool.http.guard import RequestGuard
from slowpool.http.listeners import Listeners


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
        self._listeners = Listeners(self._begin)

    @property
    def connections(self) -> int:
        """How many are open; without those that no longer speak HTTP."""
        return len(self._server._connections)

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a bound socket."""
        self._listeners.add(listener)

    async def stop_listening(self) -> None:
        """Accept what the kernel has accepted, and no more."""
        await self._listeners.close()

    async def close_all(self) -> None:
        """Close every connection at once."""
        await self._server.close_all_connections()

    def _begin(self, accepted: socket.socket, address: Any) -> None:
        self._server.handle_stream(IOStream(accepted), address)


class _GuardedServer(HTTPServer):
    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return RequestGuard(super().start_request(server_conn, request_conn))
