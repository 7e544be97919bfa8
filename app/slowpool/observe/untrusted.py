"""Types for data of another process: numbers within bounds, and text that is safe in a terminal or page."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_TEXT = 200
"""Longest route, request id or error in characters; the sender shortens them."""

UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Terminal controls (C0, DEL, C1), controls of text direction, surrogates, line and paragraph separators:
https://www.unicode.org/reports/tr44/#General_Category_Values"""


def printable(text: str, keep: str = "") -> str:
    """The text with unprintable characters escaped as in Python, ``\\x1b``, but for those to ``keep``."""
    if text.isprintable():  # nearly always
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in UNPRINTABLE and char not in keep
        else char
        for char in text
    )


Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(printable)]
