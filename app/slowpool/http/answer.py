"""Answer: the answer to one request, as its application writes it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from tornado.escape import native_str
from tornado.http1connection import parse_int
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPOutputError, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream

from slowpool.http.peer import Peer


class Line(Protocol):
    """The connection that an answer is written to. The names are those of Tornado's IOStream."""

    def write(self, data: bytes) -> "asyncio.Future[None]":
        """Send the data; done when the client has read so much that there is room for more."""
        ...

    def close(self) -> None:
        """Close the connection at once."""
        ...

    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    def on_answered(self) -> None:
        """The answer is complete."""
        ...

    def detach(self, head: bytes) -> IOStream:
        """Give the socket to the caller, with ``head`` sent on it. Raises StreamClosedError."""
        ...


class Answer(HTTPConnection):
    """What Tornado calls the connection of a request: its methods and attributes are HTTP1Connection's."""

    def __init__(self, line: Line, peer: Peer, start_line: RequestStartLine, headers: HTTPHeaders) -> None:
        self.context = peer
        self.max_body_bytes = 0
        self.body_timeout_seconds: float | None = None
        self.has_begun = False
        self._close_callback: Callable[[], None] | None = None
        self.stream = line
        self._is_http_1_1 = start_line.version == "HTTP/1.1"
        self._is_head = start_line.method == "HEAD"
        # HTTPHeaders.get takes an exception for a header that is missing, as most are.
        connection = headers["Connection"].lower() if "Connection" in headers else ""
        # A connection of HTTP/1.0 is only kept where the end of the request is clear.
        has_end = start_line.method in ("HEAD", "GET") or bool(
            {"Content-Length", "Transfer-Encoding"} & headers.keys()
        )
        self.keeps_alive = (
            connection != "close" if self._is_http_1_1 else connection == "keep-alive" and has_end
        )
        self._chunked = False
        self._left: int | None = None  # of the body, when that is known
        self._upgrade = b""  # the head of a 101, for detach()

    def set_max_body_size(self, max_body_size: int) -> None:
        """Limit the body of this request, in bytes."""
        self.max_body_bytes = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Limit the time in which the body of this request must arrive, in seconds."""
        self.body_timeout_seconds = timeout

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set what is called when the client closes the connection before the end of the answer."""
        self._close_callback = callback

    def on_close(self) -> None:
        """The client has closed the connection."""
        callback, self._close_callback = self._close_callback, None
        if callback:
            callback()

    def write_headers(  # type: ignore[override]  # of an answer
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        """Write the head, and the first part of the body.

        Raises ValueError when a header has a line end in it, and HTTPOutputError as write() does.
        """
        self.has_begun = True
        code = start_line.code
        has_body = code >= 200 and code not in (204, 304) and not self._is_head
        if has_body:
            self._left = parse_int(headers["Content-Length"]) if "Content-Length" in headers else None
        else:
            self._left = 0
        self._chunked = self._left is None and self._is_http_1_1
        if self._chunked:
            headers["Transfer-Encoding"] = "chunked"
        # Without a length, the end of the connection is that of the body.
        if self._left is None and not self._chunked:
            self.keeps_alive = False
        if "Connection" in headers and headers["Connection"].lower() == "close":
            self.keeps_alive = False
        if self._is_http_1_1 and not self.keeps_alive:
            headers["Connection"] = "close"
        elif self.keeps_alive and not self._is_http_1_1:
            headers["Connection"] = "Keep-Alive"
        status_line = f"HTTP/1.1 {code} {start_line.reason}"
        lines = []
        for name, value in headers.get_all():
            lines.append(f"{name}: {value if isinstance(value, str) else native_str(value)}")
        head = f"{status_line}\r\n".encode() + "\r\n".join([*lines, "", ""]).encode("latin-1")
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 2:
            wrong = next(line for line in [status_line, *lines] if "\r" in line or "\n" in line)
            raise ValueError(f"Illegal characters (CR or LF) in header: {wrong!r}")
        if code == 101:
            self._upgrade = head
            return done()
        return self.stream.write(head + self._framed(chunk) if chunk else head)

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        """Write a part of the body.

        Raises HTTPOutputError, and closes the connection, when that is more than Content-Length.
        """
        return self.stream.write(self._framed(chunk))

    def finish(self) -> None:
        """End the answer. Raises HTTPOutputError, and closes the connection, when a part of it is missing."""
        if self._left and not self.stream.closed():
            self.close()
            raise HTTPOutputError(f"Tried to write {self._left} bytes less than Content-Length")
        if self._chunked:
            self.stream.write(b"0\r\n\r\n")
        self._close_callback = None
        if self._upgrade:
            asyncio.get_running_loop().call_soon(self._end_upgrade)
        else:
            self.stream.on_answered()

    def close(self) -> None:
        """Close the connection at once."""
        self._close_callback = None
        self.stream.close()

    def detach(self) -> IOStream:
        """Give the connection to the caller, who speaks another protocol on it.

        Raises StreamClosedError when the client has closed it.
        """
        self._close_callback = None
        head, self._upgrade = self._upgrade, b""
        return self.stream.detach(head)

    def _end_upgrade(self) -> None:
        """Send the head of a 101 that was not followed by detach()."""
        head, self._upgrade = self._upgrade, b""
        if head:
            self.stream.write(head)

    def _framed(self, chunk: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                self.close()
                raise HTTPOutputError("Tried to write more data than Content-Length")
        if self._chunked and chunk:  # an empty one would be the end
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return chunk


def done() -> "asyncio.Future[None]":
    """A future that is done."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
