"""Forms that are made to block the loop which parses them, and the expected answer to each.

Also forms that are as large as they may be, and as people send them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slowpool.config import Config
from slowpool.http.forms import (
    HEADER_BYTES,
    MAX_FIELDS,
    MAX_PARTS,
    MONOTONOUS_BYTES,
    PART_HEADER_BYTES,
    URLENCODED_BYTES,
)

URLENCODED = "application/x-www-form-urlencoded"
FILE = b'Content-Disposition: form-data; name="f"; filename="x"'
MEGABYTE = 1024 * 1024
LARGE = Config.model_construct().max_body_bytes
"""The largest body that nginx lets through."""
ROOM = LARGE - 1024
"""Of the largest multipart form that is parsed, what its one part may have."""
LESS_ROOM = MONOTONOUS_BYTES - 1024
"""The same with a boundary of one byte, or of nearly the same bytes."""
MOST_RETURNS = b"\r----"
"""As many carriage returns as the largest form may have: a fifth."""

ALL_HEADERS = HEADER_BYTES // MAX_PARTS
"""Of each part, when there are as many as may be."""

LONGEST = b"a" + b"-" * 69
HYPHENS = b"-" * 70
RUN = b"-" * 54 + b"0123" + b"z" * 12
USUAL = b"-" * 54 + b"9f86d081884c7d65"
ATTACK = b"a" + b"-" * 7900


@dataclass(frozen=True)
class HostileForm:
    """A body with its Content-Type, and the status that it is answered with by a handler that takes any."""

    name: str
    status: int
    content_type: str
    body: Callable[[], bytes]
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request with it."""
        return {"Content-Type": self.content_type} | (
            {"Content-Encoding": self.encoding} if self.encoding else {}
        )


def multipart(boundary: bytes, *parts: tuple[bytes, bytes]) -> bytes:
    """The body of parts, each its headers and its content."""
    begun = [b"--" + boundary + b"\r\n" + headers + b"\r\n\r\n" + content for headers, content in parts]
    return b"\r\n".join([*begun, b"--" + boundary + b"--\r\n"])


def content_type(boundary: bytes) -> str:
    """That of a form with this boundary."""
    return f"multipart/form-data; boundary={boundary.decode()}"


def filled(pattern: bytes, length: int) -> bytes:
    """The pattern again and again, in so many bytes."""
    return (pattern * (length // len(pattern) + 1))[:length]


def _one(
    name: str, status: int, boundary: bytes, pattern: bytes, length: int = ROOM, end: bytes = b""
) -> HostileForm:
    return HostileForm(
        name,
        status,
        content_type(boundary),
        lambda: multipart(boundary, (FILE, b"x" + filled(pattern, length) + b".")) + end,
    )


def _many(name: str, status: int, headers: bytes, parts: int = MAX_PARTS) -> HostileForm:
    return HostileForm(name, status, content_type(b"x"), lambda: multipart(b"x", *[(headers, b"")] * parts))


def _raw(name: str, status: int, boundary: bytes, body: Callable[[], bytes]) -> HostileForm:
    return HostileForm(name, status, content_type(boundary), body)


def _encoded(name: str, status: int, pattern: bytes, length: int = URLENCODED_BYTES) -> HostileForm:
    return HostileForm(name, status, URLENCODED, lambda: b"a=" + filled(pattern, length - 2))


def _padded(start: bytes, length: int, pattern: bytes = b"x") -> bytes:
    return start + filled(pattern, length - len(start))


def _everything() -> bytes:
    """As many parts, headers, parameters and bytes as may be."""
    parameters = FILE + b";a=b" * 28
    headers = _padded(parameters + b"; filename*=utf-8''", ALL_HEADERS, b"%41")
    rest = multipart(USUAL, *[(headers, b"")] * (MAX_PARTS - 1))
    return multipart(USUAL, (FILE, filled(MOST_RETURNS, ROOM - len(rest))))[: -len(USUAL) - 6] + rest


HOSTILE = [
    # The search for the last boundary.
    _raw("boundary of 7,901 bytes, hyphens", 400, ATTACK, lambda: filled(b"-", MEGABYTE)),
    _one("boundary of 7,901 bytes in quotes", 400, b'"' + ATTACK + b'"', b"-", MEGABYTE),
    _one("boundary of 71 bytes, hyphens", 400, LONGEST + b"-", b"-", LARGE),
    _raw("no closing boundary, hyphens", 413, LONGEST, lambda: filled(b"-", LARGE + 1)),
    _raw("no closing boundary, fewer hyphens", 400, LONGEST, lambda: filled(b"-", LESS_ROOM)),
    _raw(
        "no closing boundary, a part of hyphens",
        400,
        LONGEST,
        lambda: multipart(LONGEST, (FILE, filled(b"-", LESS_ROOM)))[:-8],
    ),
    _one("closing boundary, then 7 MB of hyphens", 400, LONGEST, b"x", 10, b"-" * 7 * MEGABYTE),
    _one("closing boundary, then 5 kB of hyphens", 400, LONGEST, b"x", 10, b"-" * 5000),
    _raw("boundary repeated without CRLF", 400, LONGEST, lambda: filled(b"--" + LONGEST, LESS_ROOM)),
    _raw("closing boundary repeated", 400, LONGEST, lambda: filled(b"--" + LONGEST + b"--", LESS_ROOM)),
    # The search for a part, and for the end of its headers.
    _one("20 MB of hyphens", 413, LONGEST, b"-", LARGE),
    _one("20 MB, boundary of one byte", 413, b"x", b"."),
    _one("largest, hyphens", 200, USUAL, b"-"),
    _one("largest, LF", 200, USUAL, b"\n"),
    _one("largest, CR", 400, USUAL, b"\r"),
    _one("largest, as many CR as may be", 200, USUAL, MOST_RETURNS),
    _one("largest, the last of the boundary and CR", 200, USUAL, USUAL[-4:] + b"\r"),
    _one("largest, the boundary but for its end", 200, USUAL, b"--" + USUAL + b"\r"),
    _one("largest, the boundary but for its beginning", 200, USUAL, USUAL[1:] + b"\r\n"),
    _one("largest, another form within", 200, USUAL, multipart(b"inner", *[(FILE, b"-" * 70)] * 50)),
    _one("boundary with a run of one letter, hyphens", 200, RUN, b"-"),
    _one("boundary with a run of one letter, that letter", 200, RUN, b"z"),
    _one("boundary with a run of one letter, but for its beginning", 200, RUN, RUN[4:] + b"\r\n"),
    _one("varied boundary that ends in a hyphen", 413, b"abcdefgh----", b"-"),
    _one("monotonous boundary, hyphens", 200, LONGEST, b"-", LESS_ROOM),
    _one("monotonous boundary, CRLF", 200, LONGEST, b"\r\n", LESS_ROOM),
    _one("boundary of hyphens, hyphens", 200, HYPHENS, b"-", LESS_ROOM),
    _one("boundary of hyphens, hyphens and CRLF", 200, HYPHENS, b"-" * 71 + b"\r\n", LESS_ROOM),
    _one("boundary of one byte, CR", 200, b"x", b"\r-", LESS_ROOM),
    _one("boundary of one byte, hyphens", 200, b"x", b"-", LESS_ROOM),
    _one("boundary of one byte, ---CR", 200, b"-", b"---\r", LESS_ROOM),
    _raw(
        "headers without an end, CRLFCR",
        400,
        b"x",
        lambda: b"--x\r\n" + filled(b"\r\n\r", LESS_ROOM) + b"--x--",
    ),
    _raw("headers without an end, LF", 400, b"x", lambda: b"--x\r\n" + filled(b"\n", LESS_ROOM) + b"--x--"),
    _raw("no part, but text", 400, b"x", lambda: b"-" * MEGABYTE + multipart(b"x", (FILE, b""))),
    # The headers of parts.
    _many("headers of 7.5 kB, lines", 400, FILE + b"\r\na:" * 1800, 99),
    _many("headers of 7.5 kB, parameters", 400, FILE + b";a=b" * 1800, 99),
    _many("one part with the largest headers", 200, _padded(FILE + b"; x=", PART_HEADER_BYTES), 1),
    _many("one part with larger headers", 400, _padded(FILE + b"; x=", PART_HEADER_BYTES + 1), 1),
    _many("100 parts with the largest headers", 400, _padded(FILE + b"; x=", PART_HEADER_BYTES)),
    _many("headers of many lines", 400, FILE + b"\r\na:" * 40),
    _many("headers of many folded lines", 400, FILE + b"\r\n x" * 40),
    _many("headers of many semicolons", 400, FILE + b";" * 40),
    _many("the most lines", 200, FILE + b"\r\na:" * 29),
    _many("the most parameters", 200, FILE + b";a=b" * 29),
    _many("the most escapes", 200, _padded(FILE + b"; filename*=utf-8''", ALL_HEADERS, b"%41")),
    _many("the most quotes", 200, _padded(FILE + b"; x=", ALL_HEADERS, b'"')),
    HostileForm("the most of everything", 200, content_type(USUAL), _everything),
    _many("101 parts", 400, FILE, MAX_PARTS + 1),
    _many("20,000 parts", 400, FILE, 20_000),
    # Content-Type, and other encodings.
    HostileForm("Content-Type of 60 kB", 400, "multipart/form-data" + ";" * 60_000 + "boundary=x", bytes),
    HostileForm("empty boundary", 400, "multipart/form-data; boundary=", bytes),
    HostileForm("empty boundary in quotes", 400, 'multipart/form-data; boundary=""', lambda: b"-" * MEGABYTE),
    HostileForm("no boundary", 400, "multipart/form-data", lambda: b"-" * MEGABYTE),
    HostileForm("a second boundary", 400, content_type(ATTACK) + "; boundary=x", lambda: b"-" * MEGABYTE),
    HostileForm("gzip", 400, content_type(LONGEST), lambda: b"-" * MEGABYTE, "gzip"),
    HostileForm("gzip, url-encoded", 400, URLENCODED, lambda: b"a=1&" * MEGABYTE, "gzip"),
    # url-encoded
    _encoded("5 million fields", 400, b"a=1&", LARGE),
    _encoded("1,001 fields", 400, b"a=1&", 4 * MAX_FIELDS + 4),
    _encoded("1 MB of %41 and one byte", 413, b"%41", URLENCODED_BYTES + 1),
    _encoded("20 MB of %41", 413, b"%41", LARGE),
    _encoded("largest, %41", 200, b"%41"),
    _encoded("largest, %", 200, b"%"),
    _encoded("largest, %4", 200, b"%4"),
    _encoded("largest, +", 200, b"+"),
    _encoded("largest, %41 and a byte that is not ASCII", 200, b"%41\xff"),
    _encoded("largest, 1,000 fields of %", 200, b"%" * 1047 + b"=&"),
]

HONEST = [
    HostileForm(
        "a form without a file", 200, content_type(b"x"), lambda: multipart(b"x", (FILE[:-14], b"7"))
    ),
    HostileForm("an empty form", 200, content_type(b"x"), lambda: b"--x--\r\n"),
    HostileForm("a boundary in quotes", 200, content_type(b'"x y"'), lambda: multipart(b"x y", (FILE, b"7"))),
    HostileForm(
        "a parameter before the boundary",
        200,
        "multipart/form-data; charset=utf-8; boundary=x",
        lambda: multipart(b"x", (FILE, b"7")),
    ),
    HostileForm("the longest boundary", 200, content_type(LONGEST), lambda: multipart(LONGEST, (FILE, b"7"))),
    _one("a boundary of a few digits", 200, b"-" * 26 + b"000017209364850011221122", bytes(range(256))),
    _one("a file of 20 MB", 200, b"9f86d081884c7d65", bytes(range(256))),
    _one("a short epilogue", 200, b"x", b"7", 10, b"an epilogue"),
    _many("100 parts", 200, FILE),
    HostileForm("1,000 fields", 200, URLENCODED, lambda: b"&".join([b"a=1"] * MAX_FIELDS)),
    HostileForm("an empty url-encoded form", 200, URLENCODED, bytes),
    HostileForm(
        "no form of Tornado's", 200, "multipart/mixed; boundary=" + "-" * 7900, lambda: b"-" * MEGABYTE
    ),
    HostileForm("JSON", 200, "application/json", lambda: b"&" * MEGABYTE),
]
"""Forms as they are sent, each to be taken."""
