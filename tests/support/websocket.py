"""A WebSocket client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect


@asynccontextmanager
async def websocket(
    url: str, headers: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[WebSocketClientConnection]:
    """An open WebSocket. Leaving it waits for the closing handshake, which also closes the socket."""
    connection = await websocket_connect(HTTPRequest(url, headers=headers), **options)
    assert connection.protocol
    stream = connection.protocol.stream
    assert stream
    try:
        yield connection
    finally:
        connection.close()
        while not stream.closed():
            await connection.read_message()
