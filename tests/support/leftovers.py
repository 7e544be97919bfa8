"""A check that a run of the tests leaves nothing behind. Standard library only, since tests/run imports it.

These count as left behind:

- processes that the run has started, directly or not, with the TCP ports on which they listen (Linux only).
  An orphan becomes a child of tests/run, so processes of other users or of an engine never count;
- files and folders in ``TMPDIR``, which the run has for itself;
- new folders in ``.run``, unless a local run of somebody else is in them, and those of an engine of a swarm;
- what an engine has that is named after the run: containers, networks, volumes and images.

Two things are kept on purpose: ``.run/screenshots`` and pytest's own folders, in the usual TMPDIR.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

RUN = "SLOWPOOL_TEST_RUN"
"""The environment variable with the name of the run."""

GRACE_SECONDS = 10.0
"""A process that is just ending is not left behind."""

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LISTEN = "0A"  # linux/include/net/tcp_states.h
SWARM_ENGINES = Path("/var/tmp"), "slowpool-node-*"
LISTS = {
    "container": ["ps", "--all", "--format={{.Names}}"],
    "network": ["network", "ls", "--format={{.Name}}"],
    "volume": ["volume", "ls", "--format={{.Name}}"],
    "image": ["image", "ls", "--format={{.Repository}}:{{.Tag}}"],
}


class Leftovers:
    """A run of the tests: entered before its first test, left after its last. ``found`` has what is left."""

    def __init__(self, root: Path) -> None:
        self.found: list[str] = []
        self._root = root
        self._usual = tempfile.gettempdir()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="slowpool-run-"))
        self._folder.chmod(0o755)  # users of containers look into it
        self._name = uuid.uuid4().hex[:8]
        self._before = set(self._folders())
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_processes()
        self.found += [f"{path}" for path in sorted(self._folder.iterdir())]
        shutil.rmtree(self._folder, ignore_errors=True)
        self.found += [f"{path}" for path in self._folders() if path not in self._before]
        self.found += self._in_engine()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the run's commands."""
        return {
            **os.environ,
            RUN: self._name,
            "TMPDIR": str(self._folder),
            "PYTEST_DEBUG_TEMPROOT": os.environ.get("PYTEST_DEBUG_TEMPROOT", self._usual),
        }

    def call(self, command: list[str]) -> int:
        """Run a command of the run; returns its exit status. The terminal sends Ctrl-C to it as well."""
        with subprocess.Popen(command, env=self.environment) as process:
            while True:
                with suppress(KeyboardInterrupt):
                    pid, status = os.waitpid(-1, 0)  # also orphans: whoever waits for their end sees it
                    if pid == process.pid:
                        process.returncode = os.waitstatus_to_exitcode(status)
                        return process.returncode

    def _end_processes(self) -> None:
        """Name and kill what is left, again and again: killing one may leave its children."""
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := list(_descendants())) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            ports = _listening_ports()
            self.found += [_described(pid, ports) for pid in left]
        deadline = time.monotonic() + GRACE_SECONDS
        while left and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            left = list(_descendants())

    def _folders(self) -> Iterator[Path]:
        """The folders that tests make elsewhere than in TMPDIR."""
        run = self._root / ".run"
        for folder in sorted(run.iterdir()) if run.exists() else []:
            if folder.name != "screenshots" and not _answers(folder / "supervisor.sock"):
                yield folder
        where, pattern = SWARM_ENGINES
        yield from sorted(where.glob(pattern))

    def _in_engine(self) -> list[str]:
        if shutil.which("docker") is None:
            return []
        found = []
        for what, command in LISTS.items():
            done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=60)
            found += [f"{what} {name}" for name in done.stdout.split() if self._name in name]
        return found


def new_name() -> str:
    """A name for what a test makes in an engine; it contains the name of the run."""
    return f"slowpool-test-{os.environ.get(RUN, '')}{uuid.uuid4().hex[:8]}"


def _descendants() -> Iterator[int]:
    """The processes that this one has started, or that became its children; reaps those that ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    below = [os.getpid()]
    while below:
        found = children.get(below.pop(), [])
        yield from found
        below += found


def _listening_ports() -> dict[str, int]:
    """Inode of a socket -> the TCP port on which it listens."""
    found = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == LISTEN:
                found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def _described(pid: int, listening: Mapping[str, int]) -> str:
    """A process with its command and the ports on which it listens."""
    command, ports = "", set()
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            inode = os.readlink(file).removeprefix("socket:[").removesuffix("]")
            if inode in listening:
                ports.add(listening[inode])
    listens = f", which listens on {', '.join(map(str, sorted(ports)))}" if ports else ""
    return f"process {pid}{listens}: {command[:150] or 'no command line'}"


def _answers(path: Path) -> bool:
    """Whether a process listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
