"""Find what would keep the programs from running before supervisor starts and tries again and again."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from slowpool.errors import ConfigError

ROUTES_SECONDS = 20.0
"""Routes that take longer to import are left to the instances."""


class CheckFailed(Exception):
    """Why the routes cannot be served: the whole text, a traceback included."""


def check_routes(environ: Mapping[str, str]) -> None:
    """Import the routes in a process of its own. Raises CheckFailed, or ConfigError when that has crashed."""
    with tempfile.TemporaryFile() as errors:  # a pipe would be held open by what the module may have started
        check = subprocess.Popen(
            [sys.executable, "-m", "slowpool", "check"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = check.wait(ROUTES_SECONDS)
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
        raise ConfigError(f"ROUTES={environ['ROUTES']}: importing the module ends Python with {how}")


def check_nginx(environ: Mapping[str, str]) -> None:
    """Render nginx's configuration and have nginx check it. Raises ConfigError."""
    command = ["nginx/render", f"{environ['RUN_DIR']}/nginx"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = done.stderr.splitlines() or ["nginx/render has failed"]
        of_nginx = re.findall(r"\[emerg\] (?:\d+#\d+: )?(.+)", done.stderr)
        raise ConfigError(f"nginx: {of_nginx[0]}" if of_nginx else lines[-1].removeprefix("nginx/render: "))
