"""Form: checks the body of a form as it arrives, and refuses a form that would block the loop when parsed.

Tornado parses a whole form in one step, when its body is complete and before it chooses the handler. Its
search for the last boundary is quadratic (``bytes.rfind``), and each header of a part costs microseconds.
Parsing an accepted form takes at most 50 ms; ``python -m tests.bench.forms`` measures that.
"""

from tornado.httputil import (
    HTTPHeaders,
    ParseBodyConfig,
    ParseMultipartConfig,
    ParseUrlEncodedConfig,
    set_parse_body_config,
)

from slowpool.errors import BadArgument, ContentTooLarge

URLENCODED_BYTES = 1024 * 1024
MAX_FIELDS = 1000
MONOTONOUS_BYTES = 8 * 1024 * 1024
"""The limit when the boundary ends in a hyphen, or its last sixteen bytes have fewer than four different
values: searching for it can be slow. The boundaries of real clients end in random letters and digits."""

MAX_CARRIAGE_RETURNS = 4 * 1024 * 1024
"""A carriage return can begin the end of any boundary, so each one slows the search."""

MAX_PARTS = 100
PART_HEADER_BYTES = 2048
HEADER_BYTES = 64 * 1024
"""All headers of all parts."""

PART_HEADER_FIELDS = 32
"""Headers and parameters of a part. A semicolon in a file name counts too. Browsers send four."""

BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""

EPILOGUE_BYTES = 4096
"""The closing boundary must be in the last bytes, where a search from the end finds it quickly."""

CONTENT_TYPE_BYTES = 1024


def limit_parsing() -> None:
    """Set Tornado's own limits in this process; they apply to query strings too."""
    set_parse_body_config(
        ParseBodyConfig(
            # Tornado counts the text before the first boundary as a part.
            multipart=ParseMultipartConfig(max_parts=MAX_PARTS + 1, max_part_header_size=PART_HEADER_BYTES),
            urlencoded=ParseUrlEncodedConfig(max_arguments=MAX_FIELDS),
        )
    )


class _UrlEncoded:
    def __init__(self) -> None:
        self._bytes = 0
        self._fields = 1

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        self._fields += chunk.count(b"&")
        if self._bytes > URLENCODED_BYTES:
            raise ContentTooLarge(
                f"an url-encoded form may have {URLENCODED_BYTES} bytes; send more as multipart/form-data"
            )
        if self._fields > MAX_FIELDS:
            raise BadArgument(f"an url-encoded form may have {MAX_FIELDS} fields")

    def end(self) -> None:
        pass


class _Multipart:
    def __init__(self, boundary: bytes, max_bytes: int) -> None:
        self._delimiter = b"--" + boundary + b"\r\n"
        self._last_delimiter = b"--" + boundary + b"--"
        is_varied = len(set(boundary[-16:])) >= 4 and not boundary.endswith(b"-")
        self._max_bytes = max_bytes if is_varied else min(max_bytes, MONOTONOUS_BYTES)
        self._bytes = 0
        self._carriage_returns = 0
        self._parts = 0
        self._header_bytes = 0
        self._in_header = False
        self._rest = b""  # an incomplete header, or the possible start of a delimiter
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > self._max_bytes:
            raise ContentTooLarge(
                f"a multipart form with this boundary may have {self._max_bytes} bytes; send a larger file "
                "as the body itself, or to a handler with @stream_request_body"
            )
        self._carriage_returns += chunk.count(b"\r")
        if self._carriage_returns > MAX_CARRIAGE_RETURNS:
            raise BadArgument(f"a multipart form may have {MAX_CARRIAGE_RETURNS} carriage returns")
        self._tail = (self._tail + chunk[-EPILOGUE_BYTES:])[-EPILOGUE_BYTES:]
        data = self._rest + chunk
        at = 0
        while True:
            if self._in_header:
                end = data.find(b"\r\n\r\n", at, at + PART_HEADER_BYTES + 4)
                if end < 0:
                    if len(data) >= at + PART_HEADER_BYTES + 4:
                        raise BadArgument(f"the headers of a part may have {PART_HEADER_BYTES} bytes")
                    break
                self._header_bytes += end - at
                if self._header_bytes > HEADER_BYTES:
                    raise BadArgument(f"the headers of all parts may have {HEADER_BYTES} bytes")
                if data.count(b"\n", at, end) + data.count(b";", at, end) >= PART_HEADER_FIELDS:
                    raise BadArgument(f"a part may have {PART_HEADER_FIELDS} headers and parameters")
                at, self._in_header = end, False
            else:
                found = data.find(self._delimiter, at)
                if found < 0:
                    at = max(at, len(data) - len(self._delimiter) + 1)
                    break
                if not self._parts and found + self._bytes != len(data):
                    raise BadArgument("a multipart form must begin with its boundary")
                self._parts += 1
                if self._parts > MAX_PARTS:
                    raise BadArgument(f"a multipart form may have {MAX_PARTS} parts")
                at, self._in_header = found + len(self._delimiter), True
        self._rest = data[at:]

    def end(self) -> None:
        if self._last_delimiter not in self._tail:
            raise BadArgument(
                f"a multipart form must have its closing boundary in its last {EPILOGUE_BYTES} bytes"
            )
        if not self._parts and (
            self._bytes > EPILOGUE_BYTES or not self._tail.startswith(self._last_delimiter)
        ):
            raise BadArgument("a multipart form must begin with its boundary")


Form = _UrlEncoded | _Multipart
"""The body of a form that is being received: fed with its bytes, it raises BadArgument or ContentTooLarge."""


def form(headers: HTTPHeaders, max_bytes: int) -> Form | None:
    """The form that Tornado will parse for these headers; None if it will parse none.

    Raises BadArgument if the form is compressed, or its boundary is missing or too long.
    """
    content_type = headers.get("Content-Type", "")
    urlencoded = content_type.startswith("application/x-www-form-urlencoded")
    if not urlencoded and not content_type.startswith("multipart/form-data"):
        return None
    if "Content-Encoding" in headers:  # Tornado does not parse these
        raise BadArgument("a form must not have a Content-Encoding")
    return _UrlEncoded() if urlencoded else _Multipart(_boundary(content_type), max_bytes)


def _boundary(content_type: str) -> bytes:
    """The boundary that Tornado uses: the first parameter ``boundary``, in lower case, that is not empty."""
    if len(content_type) <= CONTENT_TYPE_BYTES:
        for field in content_type.split(";"):
            name, _, value = field.strip().partition("=")
            if name == "boundary" and value:
                if value.startswith('"') and value.endswith('"'):
                    value = value[1:-1]
                if 1 <= len(boundary := value.encode()) <= BOUNDARY_BYTES:
                    return boundary
                break
    raise BadArgument(
        f"the Content-Type of a multipart form must have a boundary of 1 to {BOUNDARY_BYTES} bytes "
        f"(RFC 2046, 5.1.1) and at most {CONTENT_TYPE_BYTES} bytes in all"
    )
