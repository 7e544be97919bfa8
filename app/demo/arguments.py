"""The arguments of the demo's routes."""

import re

from slowpool.errors import BadArgument
from slowpool.web import Handler


def job_id(handler: Handler) -> str:
    """The argument ``id``: 1 to 64 letters, digits, ``.``, ``_`` and ``-``. Raises BadArgument."""
    value = handler.get_argument("id", strip=False)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise BadArgument("id must be 1 to 64 letters, digits, '.', '_' or '-'")
    return value


def size(handler: Handler) -> int:
    """The argument ``n``: how much work there is to do. Raises BadArgument."""
    return handler.integer("n", default=2000, minimum=1, maximum=20_000)
