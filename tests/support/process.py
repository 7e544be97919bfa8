"""Programs that a test starts. Their output is kept, and none outlives its test."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from slowpool.config import Pool
from tests.support.basics import ROOT, environment, free_ports, wait_until
from tests.support.client import Response, request

APPS = ROOT / "tests" / "apps"
"""The applications that tests serve; a folder without ``.env``."""

WORKER, TEMPLATE = "slow-worker", "slow-template"
"""The names of these processes of an instance."""


class Process:
    """A program that runs beside the test; ``output`` holds what it and its children print.

    A subclass says when the program is up (``wait_until_up``), how it should end (``check_end``) and what
    it leaves to be removed (``clean_up``). Leaving it kills its process group. When the test fails, the
    output is added to the error.
    """

    def __init__(
        self,
        command: Iterable[str | Path],
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: IO[bytes] | None = None,
    ) -> None:
        self._output = tempfile.NamedTemporaryFile(prefix="slowpool-test-")  # noqa: SIM115  # in __exit__
        self._popen = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout or self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self.wait_until_up()
        except BaseException as error:
            self._close(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.check_end()
        except BaseException as found:
            self._close(found)
            raise
        self._close(error)

    def wait_until_up(self) -> None:
        """Return when the program can be used."""

    def check_end(self) -> None:
        """End the program after a test that has passed. Raises AssertionError when it ends wrongly."""

    def clean_up(self) -> None:
        """Remove what is left, whatever has happened."""

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What has been printed until now."""
        return self.raw_output.decode(errors="replace")

    @property
    def raw_output(self) -> bytes:
        """The same, byte for byte."""
        return Path(self._output.name).read_bytes()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def write_line(self, text: str) -> None:
        """Send a line to the program's stdin, which must be a pipe."""
        assert self._popen.stdin
        self._popen.stdin.write(f"{text}\n".encode())
        self._popen.stdin.flush()

    def wait(self, timeout: float = 30) -> int:
        """The exit status, once the program has ended."""
        return self._popen.wait(timeout)

    def wait_for_output(self, pattern: str, timeout: float = 30) -> str:
        """The first line that the pattern is found in, once all of it is there."""

        def line() -> str | None:
            *whole, _ = self.output.split("\n")
            found = [text for text in whole if re.search(pattern, text)]
            if not found:
                assert self.running, f"ended with exit status {self.wait()} before {pattern!r}"
            return found[0] if found else None

        return str(wait_until(line, timeout, f"a line {pattern!r}"))

    def _close(self, error: BaseException | None) -> None:
        # The kernel gives the pid of a process that has been waited for again, unless its group is left.
        if self.running or not psutil.pid_exists(self.pid):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        if self._popen.stdin:
            self._popen.stdin.close()
        self.clean_up()
        if error is not None:
            error.add_note(f"--- output of {self._popen.args!r} ---\n{self.output[-4_000:]}")
        self._output.close()


class Instance(Process):
    """``python -m slowpool`` on a free port, in the folder ``path``; ready once entered.

    A warning or an error in its log fails the test, unless ``expected`` is found in the line; so does
    another exit status than ``ends_with``.
    """

    def __init__(
        self,
        pool: Pool = Pool.ALL,
        *options: str,
        path: Path = APPS,
        expected: str = "$^",
        ends_with: int = 0,
        port: int | None = None,
        **settings: object,
    ) -> None:
        self.port = port or free_ports()
        self._expected = expected
        self._ends_with = ends_with
        command = app_command(pool, self.port, *options)
        super().__init__(command, path, app_environment(path, settings))

    def wait_until_up(self) -> None:
        self.wait_for_output(r" is ready(\",|$)")

    def check_end(self) -> None:
        if self.running:
            self.terminate()
        assert self.wait() == self._ends_with
        for line in self.output.splitlines():
            if re.search(r" (WARNING|ERROR|CRITICAL) |^Traceback|Error\b", line):
                assert re.search(self._expected, line), f"unexpected in the log: {line}"

    def get(self, target: str, method: str = "GET", body: bytes | None = None) -> Response:
        """One request on a connection of its own."""
        return request(self.port, target, method, body=body)

    @property
    def template(self) -> psutil.Process:
        """The process from which the workers are forked."""
        (template,) = below(self.pid, TEMPLATE)
        return template

    @property
    def workers(self) -> list[psutil.Process]:
        return below(self.pid, WORKER)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.signal(signal.SIGTERM)


def below(pid: int, name: str) -> list[psutil.Process]:
    """The descendants of a process that run and have this name."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if runs(process) and process.name() == name:
                found.append(process)
    return found


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def app_command(pool: Pool | str, port: int, *options: str) -> list[str]:
    """The command line of an instance."""
    return [sys.executable, "-m", "slowpool", "serve", f"--pool={pool}", f"--port={port}", *options]


def app_environment(path: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """The environment of an instance which finds modules in ``path``; a warning there is an error."""
    return {
        **environment({"LOG_FORMAT": "console", **settings}),
        "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_app(path: Path, pool: Pool = Pool.ALL, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run an instance that cannot start; returns how it ended."""
    return _done(app_command(pool, free_ports()), path, settings)


def check_app(path: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """``python -m slowpool check``, where an instance would run."""
    return _done([sys.executable, "-m", "slowpool", "check"], path, settings)


def _done(command: list[str], path: Path, settings: Mapping[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=path,
        env=app_environment(path, settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
