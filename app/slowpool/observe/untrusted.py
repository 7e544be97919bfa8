"""Types for data of another process: numbers within bounds, and text that is safe in a terminal or page."""

import functools
import unicodedata
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

MAX_TEXT = 200
"""Longest route, request id or error in characters; the sender shortens them."""

CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
"""Terminal controls (C0, DEL, C1), surrogates, line and paragraph separators:
https://www.unicode.org/reports/tr44/#General_Category_Values"""

DIRECTION = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Controls of text direction. They are in Cf, with the joiners of emoji, the soft hyphen and others."""


def printable(text: str) -> str:
    """The text with unprintable characters escaped as in Python, ``\\x1b``."""
    return _escape(text, lambda char: unicodedata.category(char) in {*CONTROLS, "Cf"})


def loggable(text: str, keep: str) -> str:
    """The same for an application's log: of Cf only DIRECTION is escaped, and nothing of ``keep``."""
    return _escape(
        text,
        lambda char: (unicodedata.category(char) in CONTROLS or char in DIRECTION) and char not in keep,
    )


@functools.lru_cache(1000)
def short_ascii(text: str) -> str:
    """The text as it may be in a header, for nginx's log."""
    return loggable(text, keep="").encode("ascii", "backslashreplace").decode()[:MAX_TEXT]


def what_is_wrong(error: ValidationError) -> str:
    """The first error, such as ``active: Input should be a valid integer``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(printable)]


def _escape(text: str, is_unprintable: Callable[[str], bool]) -> str:
    if text.isprintable():  # nearly always
        return text
    return "".join(char.encode("unicode_escape").decode() if is_unprintable(char) else char for char in text)
