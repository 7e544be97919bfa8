"""The head of a request: its start line and its headers, read by llhttp."""

import functools
import re

import httptools
from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine

from slowpool.http.guard import is_claim

END = re.compile(rb"\n\r?\n")
"""Where a head ends, for Tornado. llhttp refuses a line that ends with a bare line feed."""

REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
"""As in Tornado: the method is a token (RFC 9110, 5.6.2), and the target any characters that are seen.

llhttp knows some methods only, and refuses targets that browsers send. An application may have routes for
both.
"""

VISIBLE = bytes({*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)})
"""What may be in a header's value, for Tornado, and in the line ends between headers."""

ANY_LINE = b"GET / HTTP/1.1\r\n"


def read_head(data: bytes) -> tuple[RequestStartLine, HTTPHeaders]:
    """The start line and the headers in ``data``, which ends with END; without those that nginx has not set.

    Raises HTTPInputError when it is not the head of exactly one request.
    """
    line, _, lines = data.lstrip(b"\r\n").partition(b"\r\n")
    found = REQUEST_LINE.fullmatch(line)
    if not found:
        raise HTTPInputError("Malformed HTTP request line")
    if lines.translate(None, VISIBLE):
        raise HTTPInputError("Malformed HTTP headers: a control character")
    head = _Head()
    try:
        httptools.HttpRequestParser(head).feed_data(ANY_LINE + lines)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HTTPInputError(str(error.__context__ or error)) from error
    if not head.is_complete:
        raise HTTPInputError("Malformed HTTP headers")
    method, target, version = found.groups()
    return RequestStartLine(method.decode(), target.decode("latin-1"), version.decode()), _headers(
        head.fields
    )


def _headers(fields: list[tuple[bytes, bytes]]) -> HTTPHeaders:
    headers = HTTPHeaders()
    names = set()
    for name, value in fields:
        text = value.decode("latin-1").strip(" \t")
        name_text = _believed_name(name)
        if name_text in names:
            headers.add(name_text, text)
        elif name_text:
            names.add(name_text)
            headers[name_text] = text
    return headers


@functools.lru_cache(200)
def _believed_name(name: bytes) -> str:
    """The name of a header in small letters; empty for one that nginx has not set."""
    text = name.decode("latin-1").lower()
    return "" if is_claim(text) else text


class _Head:
    """What llhttp has found."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            raise HTTPInputError("there are two heads in one")
        self.is_complete = True
