"""An HTTP/2 client over TLS that can cancel one request and keep its connection."""

import socket
import ssl
from email.message import Message
from types import TracebackType
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.client import Response


class Http2:
    """One connection to ``localhost``."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        assert self._socket.selected_alpn_protocol() == "h2"
        self._http2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._http2.initiate_connection()
        self._seen: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, target: str, body: bytes | None = None, method: str = "GET", *, end: bool = True) -> int:
        """Send a request, with a body whose length is not announced when there is one; returns its stream.

        Without ``end`` more of the body would follow.
        """
        stream = self._http2.get_next_available_stream_id()
        pseudo = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": target}
        self._http2.send_headers(stream, list(pseudo.items()), end_stream=body is None)
        if body is not None:
            self._http2.send_data(stream, body, end_stream=end)
        self._socket.sendall(self._http2.data_to_send())
        return stream

    def cancel(self, stream: int) -> None:
        """Take a request back."""
        self._http2.reset_stream(stream)
        self._socket.sendall(self._http2.data_to_send())

    def answer(self, stream: int) -> Response:
        """Wait for the answer to a request."""
        while not any(isinstance(event, StreamEnded) for event in self._of(stream)):
            assert not any(isinstance(event, StreamReset) for event in self._of(stream))
            data = self._socket.recv(65536)
            assert data, "the connection was closed"
            self._seen += self._http2.receive_data(data)
            self._socket.sendall(self._http2.data_to_send())
        headers, body = Message(), b""
        for event in self._of(stream):
            if isinstance(event, ResponseReceived):
                for name, value in event.headers:
                    headers.add_header(str(name), str(value))
            elif isinstance(event, DataReceived):
                body += event.data
        return Response(int(headers[":status"]), headers, body)

    def _of(self, stream: int) -> list[Event]:
        return [event for event in self._seen if getattr(event, "stream_id", None) == stream]
