"""Types of what another process says: numbers within bounds, and texts that a terminal or a page can show."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_TEXT = 200
"""Characters of a route, a request's id or an error; whoever says it shortens it."""

UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls of terminals (C0, DEL, C1), of the direction of writing, surrogates, ends of lines and paragraphs:
https://www.unicode.org/reports/tr44/#General_Category_Values"""


def printable(text: str) -> str:
    """The text with what is not printable as in a Python literal, ``\\x1b``."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in UNPRINTABLE else char
        for char in text
    )


Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(printable)]
