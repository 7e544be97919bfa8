"""Which nginx a local run takes: the machine's own, where it is new enough and can do all that is needed, or
the wheel's.

Where the chosen one has known faults, HTTP/2 is left out, unless the operator wants it: ``HTTP2=on``.
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
"""Where an nginx may be that is not in the PATH of an ordinary user."""


def choose_nginx(environ: Mapping[str, str], run_dir: Path) -> dict[str, str]:
    """What to change in the environment of ``nginx/start``, so that it finds the nginx to take.

    ``environ`` has all settings, and the wheel's nginx first in its PATH. Raises ConfigError without any.
    """
    if machines := _machines_nginx(environ):
        folder = run_dir / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "nginx").unlink(missing_ok=True)
        (folder / "nginx").symlink_to(machines)
        with_it = {**environ, "PATH": f"{folder}:{environ['PATH']}"}
        if not _faults(with_it) and _can_do(with_it):
            return {"PATH": with_it["PATH"]}
    return {"HTTP2": "off"} if not environ.get("HTTP2") and _faults(environ) else {}


def _machines_nginx(environ: Mapping[str, str]) -> str | None:
    """The nginx that is found beside the one of this Python's environment."""
    own, *others = environ["PATH"].split(os.pathsep)
    return shutil.which(
        "nginx", path=os.pathsep.join([*(one for one in others if one != own), SYSTEM_FOLDERS])
    )


def _faults(environ: Mapping[str, str]) -> str:
    """What ``nginx/render --faults`` says of the nginx that this environment finds."""
    done = subprocess.run([RENDER, "--faults"], env=dict(environ), capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(done.stderr.strip())
    return done.stdout


def _can_do(environ: Mapping[str, str]) -> bool:
    """Whether it takes the configuration of these settings."""
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        return subprocess.run([RENDER, folder], env=dict(environ), capture_output=True).returncode == 0
