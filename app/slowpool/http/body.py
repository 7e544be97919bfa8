"""The body of a request: where it ends, and its data without the framing.

It is read as Tornado reads it, which is stricter than llhttp: a chunk has no extension, and there are no
trailers. Behind nginx neither arrives: nginx reads both, and drops them.
"""

import re

from tornado.http1connection import is_transfer_encoding_chunked, parse_hex_int, parse_int
from tornado.httputil import HTTPHeaders, HTTPInputError

CHUNK_SIZE_BYTES = 64
"""The longest line with the size of a chunk."""


class FixedBody:
    """A body of ``length`` bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been fed."""
        return not self._left

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of ``data`` belongs to the body, and what is left over, to be fed again with more."""
        part = data[: self._left]
        self._left -= len(part)
        return part, data[len(part) :]


class ChunkedBody:
    """A body in chunks, of at most ``max_bytes`` in all."""

    def __init__(self, max_bytes: int) -> None:
        self.is_complete = False
        self._max_bytes = max_bytes
        self._bytes = 0
        self._left = 0  # of the chunk
        self._in_chunk = False  # or in its line end

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """As FixedBody. Raises HTTPInputError when it is not a chunked body, or is too large."""
        parts = []
        at = 0
        while not self.is_complete:
            if self._left:
                part = data[at : at + self._left]
                if not part:
                    break
                parts.append(part)
                self._left -= len(part)
                at += len(part)
            elif self._in_chunk:
                if len(data) < at + 2:
                    _check(b"\r\n".startswith(data[at:]))
                    break
                _check(data.startswith(b"\r\n", at))
                at += 2
                self._in_chunk = False
            else:
                end = data.find(b"\r\n", at, at + CHUNK_SIZE_BYTES)
                if end < 0:
                    _check(len(data) < at + CHUNK_SIZE_BYTES)
                    break
                size = _chunk_size(data[at:end])
                if not size:
                    if len(data) < end + 4:
                        _check(b"\r\n".startswith(data[end + 2 :]))
                        break
                    _check(data.startswith(b"\r\n", end + 2))
                    self.is_complete = True
                    at = end + 4
                    break
                self._bytes += size
                if self._bytes > self._max_bytes:
                    raise HTTPInputError("chunked body too large")
                self._left, self._in_chunk, at = size, True, end + 2
        return b"".join(parts), data[at:]


Body = FixedBody | ChunkedBody
"""A body that is being received."""


def body(headers: HTTPHeaders, max_bytes: int) -> Body | None:
    """The body that follows these headers; None when there is none.

    Raises HTTPInputError when that is not clear, or the body has more than ``max_bytes``.
    """
    if is_transfer_encoding_chunked(headers):
        return ChunkedBody(max_bytes)
    if "Content-Length" not in headers:
        return None
    lengths = {*re.split(r",[ \t]*", headers["Content-Length"])}
    if len(lengths) > 1:
        raise HTTPInputError("Multiple unequal Content-Lengths")
    headers["Content-Length"] = lengths.pop()
    try:
        length = parse_int(headers["Content-Length"])
    except ValueError:
        raise HTTPInputError("Only integer Content-Length is allowed") from None
    if length > max_bytes:
        raise HTTPInputError("Content-Length too long")
    return FixedBody(length) if length else None


def _chunk_size(line: bytes) -> int:
    try:
        return parse_hex_int(line.decode("latin-1"))
    except ValueError:
        raise HTTPInputError("invalid chunk size") from None


def _check(is_right: bool) -> None:
    if not is_right:
        raise HTTPInputError("improperly terminated chunk")
