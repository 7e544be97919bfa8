"""slowpool's HTTP server in the process of a test, and its clients."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tornado.web import Application

from slowpool.http.connection import Limits
from slowpool.http.server import Server

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"

Run = Callable[[Callable[[], Awaitable[None]]], None]
"""The fixture ``run`` of tests/unit/http."""


@contextlib.asynccontextmanager
async def serving(
    app: Application, *, keeps_unsent: bool = False, **limits: Any
) -> AsyncIterator[tuple[Server, int]]:
    """The server and its port. What it cannot send waits in the kernel, or, with ``keeps_unsent``, in it."""
    listener = socket.create_server(("127.0.0.1", 0))
    if keeps_unsent:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = Server(app, Limits(**limits))
    server.listen(listener)
    try:
        yield server, listener.getsockname()[1]
    finally:
        await server.stop_listening()
        await server.close_all()
        await until(lambda: not server.connections)


async def until(is_so: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.005)
