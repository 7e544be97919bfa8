"""Choose the nginx of a local run.

The nginx of the machine is used if it has no known faults and accepts the configuration, otherwise that of
the PyPI wheel. If the chosen one has known faults, HTTP/2 is off unless ``HTTP2=on`` is set.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from slowpool.errors import ConfigError

RENDER = Path(__file__).resolve().parents[2] / "nginx" / "render"
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin"
"""Folders of nginx that are not in the PATH of an ordinary user."""


def choose_nginx(environ: Mapping[str, str], run_dir: Path) -> dict[str, str]:
    """Return the changes to the environment of ``nginx/start`` that make it use the chosen nginx.

    ``environ`` has all settings, and the folder of the wheel's nginx first in its PATH. Raises ConfigError
    when there is no nginx.
    """
    if found := _machine_nginx(environ):
        folder = run_dir / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "nginx").unlink(missing_ok=True)
        (folder / "nginx").symlink_to(found)
        changed = {**environ, "PATH": f"{folder}:{environ['PATH']}"}
        if not _faults(changed) and _is_accepted(changed):
            return {"PATH": changed["PATH"]}
    return {"HTTP2": "off"} if not environ.get("HTTP2") and _faults(environ) else {}


def _machine_nginx(environ: Mapping[str, str]) -> str | None:
    """Find an nginx outside this Python's environment."""
    own, *others = environ["PATH"].split(os.pathsep)
    return shutil.which(
        "nginx", path=os.pathsep.join([*(one for one in others if one != own), SYSTEM_FOLDERS])
    )


def _faults(environ: Mapping[str, str]) -> str:
    """Return the known faults of the nginx in PATH, empty for none. Raises ConfigError."""
    done = subprocess.run([RENDER, "--faults"], env=dict(environ), capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(done.stderr.strip())
    return done.stdout


def _is_accepted(environ: Mapping[str, str]) -> bool:
    """Whether the nginx in PATH accepts the configuration of these settings."""
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        return subprocess.run([RENDER, folder], env=dict(environ), capture_output=True).returncode == 0
