"""DetachedStream: a connection that no longer speaks HTTP, as Tornado's own code uses it."""

import os
import socket
from asyncio import Transport

from tornado.iostream import IOStream


class DetachedStream(IOStream):
    """An IOStream on the socket of a transport; ``early`` is what the transport has read already."""

    def __init__(self, transport: Transport, early: bytes, max_buffer_bytes: int) -> None:
        self._early = early
        connection = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        connection.setblocking(False)
        super().__init__(connection, max_buffer_size=max_buffer_bytes)
        transport.abort()  # it closes its own descriptor of the socket

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """As IOStream: read into ``buf``."""
        if not self._early:
            return super().read_from_fd(buf)
        part = self._early[: len(buf)]
        buf[: len(part)] = part
        self._early = self._early[len(part) :]
        return len(part)
