"""What a client prefers (RFC 7240): how long it waits, and whether it would rather fetch the answer later."""

import re
from dataclasses import dataclass

from tornado.httputil import HTTPHeaders


@dataclass(frozen=True)
class Preferences:
    """``wait`` in seconds, None without it."""

    wait: int | None = None
    respond_async: bool = False


def preferences(headers: HTTPHeaders) -> Preferences:
    """Those of a request; the first of each name counts, and what cannot be read is not there."""
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(",".join(headers.get_list("Prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Preferences(int(wait) if re.fullmatch("[0-9]{1,9}", wait) else None, "respond-async" in found)


_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # a comma in quotes is no separator
