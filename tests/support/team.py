"""The checks of tests/apps/team, and its settings under slowpool."""

import inspect
from collections.abc import Callable
from typing import Any

from tests.support import team_live, team_pages

CHECKS: dict[str, Callable[[str], None]] = {
    name: check
    for module in (team_pages, team_live)
    for name, check in vars(module).items()
    if inspect.isfunction(check) and check.__module__ == module.__name__ and not name.startswith("_")
}

SETTINGS: dict[str, Any] = {
    "APP": "tests.apps.team:make_app",
    "AFFINITY": "cookie:room",
    "MAX_BODY_BYTES": 300_000_000,
    "STREAM_PATHS": "/upload",
}
