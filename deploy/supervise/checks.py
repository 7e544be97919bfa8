"""Checks before supervisor starts, which would restart a program that cannot run again and again."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from slowpool.errors import ConfigError

LOAD_SECONDS = 20.0
"""An application that takes longer to load is not checked; the instances load it."""


class CheckFailed(Exception):
    """The application cannot be loaded; the text may include a traceback."""


def check_app(app: str, environ: Mapping[str, str]) -> None:
    """Load the application in a separate process. Raises CheckFailed, or ConfigError when it crashes."""
    with tempfile.TemporaryFile() as errors:  # children of the application would hold a pipe open
        check = subprocess.Popen(
            [sys.executable, "-m", "slowpool", "check"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = check.wait(LOAD_SECONDS)
        except subprocess.TimeoutExpired:
            return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(check.pid, signal.SIGKILL)
            check.wait()
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if status == ConfigError.exit_status and text:
        raise CheckFailed(text)
    if status:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ConfigError(f"APP={app}: loading it ends Python with {how}")


def check_nginx(environ: Mapping[str, str]) -> None:
    """Render the configuration of nginx and let nginx test it. Raises ConfigError."""
    command = ["nginx/render", f"{environ['SLOWPOOL_RUN_DIR']}/nginx"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = done.stderr.splitlines() or ["nginx/render failed"]
        emergencies = re.findall(r"\[emerg\] (?:\d+#\d+: )?(.+)", done.stderr)
        raise ConfigError(
            f"nginx: {emergencies[0]}" if emergencies else lines[-1].removeprefix("nginx/render: ")
        )
