"""``docker-compose.yml`` as it is written; no engine is asked."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.basics import ROOT

COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


def compose() -> dict[str, Any]:
    """The content of the file, with its variables unexpanded."""
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return parsed


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace the variables in a value of the file."""
    return VARIABLE.sub(lambda match: env.get(match[1]) or match[2], text)
