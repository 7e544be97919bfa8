"""The release of slowpool that runs."""

import contextlib
import functools
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
"""Of the checkout, or of the image's copy of it."""


@functools.cache
def release() -> str:
    """Such as ``0.1.0``; empty if nothing tells."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        project = tomllib.loads(PROJECT.read_text())["project"]
        # It may be that of a user who has installed slowpool into a folder of the project.
        if project["name"] == "slowpool":
            return str(project["version"])
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("slowpool")
    return ""
