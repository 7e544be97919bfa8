"""The release of slowpool that runs."""

import functools
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
"""Of the checkout, or of the image's copy of it."""


@functools.cache
def release() -> str:
    """Such as ``0.1.0``; empty if nothing tells."""
    try:
        if PROJECT.exists():
            return str(tomllib.loads(PROJECT.read_text())["project"]["version"])
        return metadata.version("slowpool")
    except (OSError, ValueError, KeyError, metadata.PackageNotFoundError):
        return ""
