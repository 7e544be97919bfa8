"""The whole system on this machine, as ``./deploy/local`` runs it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any
from xmlrpc.client import ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from tests.support.basics import ROOT, environment, free_ports, wait_until
from tests.support.client import Response, request
from tests.support.process import Process

ONE_EACH: dict[str, Any] = {"FAST_PROCESSES": 1, "SLOW_PROCESSES": 1}
"""The smallest system, which is up the soonest."""


class System(Process):
    """``./deploy/local`` on ports of its own; up once entered, drained and gone once left.

    Leaving it sends what Ctrl-C does, and fails the test when the exit status is not 0 or a process
    is left. With ``harmed`` the test ends it itself. The settings ``left_to_file`` come from its ``.env``.
    """

    def __init__(
        self,
        folder: Path = ROOT,
        *,
        harmed: bool = False,
        left_to_file: Collection[str] = (),
        stdout: IO[bytes] | None = None,
        **settings: object,
    ) -> None:
        self.settings = {**system_ports(settings), **settings}
        self.folder = folder
        self.port = int(str(self.settings["HTTP_PORT"]))
        self.admin_port = int(str(self.settings["ADMIN_PORT"]))
        self._harmed = harmed
        self.family = Family()
        self.env = {**environment(self.settings), **self.family.environment}
        for name in left_to_file:
            del self.env[name]
        super().__init__([folder / "deploy" / "local"], folder, self.env, stdout=stdout)

    def wait_until_up(self) -> None:
        self.wait_for_output(r"^slowpool: is up, at https?://[\w.-]+:\d+/$", timeout=110)
        self.family.note_sessions()

    def check_end(self) -> None:
        if not self._harmed:
            self.family.note_sessions()
            assert self.stop() == 0
            assert "Traceback" not in self.output
        self.family.assert_gone()

    def clean_up(self) -> None:
        self.family.kill()
        remove_run(self.folder, self.settings)

    def get(self, target: str, method: str = "GET", **options: Any) -> Response:
        """One request through nginx."""
        return request(self.port, target, method, **options)

    def stop(self) -> int:
        """Ctrl-C; the exit status once it has ended."""
        self.signal(signal.SIGINT)
        return self.wait(timeout=30)

    def supervisor(self, method: str, *arguments: object) -> Any:
        """Call a method of supervisor's XML-RPC interface."""
        socket = self.folder / ".run" / str(self.port) / "supervisor.sock"
        transport = SupervisorTransport(None, None, f"unix://{socket}")
        with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def program(self, name: str) -> dict[str, Any]:
        """What supervisor knows of a program, such as ``fast-8001``."""
        programs: list[dict[str, Any]] = self.supervisor("getAllProcessInfo")
        return next(program for program in programs if program["name"] == name)

    def instances(self, pool: str) -> list[int]:
        """The ports of a pool's instances."""
        first = int(str(self.settings[f"{pool.upper()}_PORT"]))
        count = int(str(self.settings.get(f"{pool.upper()}_PROCESSES", 2)))
        return list(range(first, first + count))

    def pid_of(self, pool: str, port: int) -> int:
        """The process of an instance."""
        return int(self.program(f"{pool}-{port}")["pid"])

    def access_log(self, request_id: str) -> dict[str, Any]:
        """nginx's line about a request."""
        found: dict[str, Any] = json.loads(self.wait_for_output(rf'^{{.*"request_id":"{request_id}"'))
        return found


def is_ready(port: int, address: str = "127.0.0.1") -> bool:
    """Whether an instance says so; that of a container can be asked from here, on Linux."""
    try:
        return request(port, "/-/readyz", address=address, timeout=2).status == 200
    except OSError:
        return False


def wait_until_whole(system: System, **targets: str) -> None:
    """Wait until every instance is ready and nginx uses it; ``targets`` has a path for each pool."""
    for pool, target in targets.items():
        ports = system.instances(pool)
        wait_until(lambda: all(map(is_ready, ports)))  # noqa: B023  # waits here
        wait_until(lambda: is_served_by_all(system, pool, target))  # noqa: B023


def is_served_by_all(system: System, pool: str, target: str) -> bool:
    """Whether nginx gives requests to each instance of a pool."""
    ports = system.instances(pool)
    seen = {system.get(target).headers["X-Served-By"] for _ in range(4 * len(ports))}
    return seen == {f"{pool}:{port}" for port in ports}


def run_to_its_end(
    folder: Path = ROOT, *arguments: str, **settings: object
) -> subprocess.CompletedProcess[str]:
    """``./deploy/local`` that must end without a signal and leave no process."""
    family = Family()
    settings = {**system_ports(settings), **settings}
    try:
        done = subprocess.run(
            [folder / "deploy" / "local", *arguments],
            cwd=folder,
            env={**environment(settings), **family.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        family.assert_gone()
    finally:
        family.kill()
        remove_run(folder, settings)
    return done


def remove_run(folder: Path, settings: Mapping[str, object]) -> None:
    """Remove what a local run keeps in ``.run``."""
    shutil.rmtree(folder / ".run" / str(settings["HTTP_PORT"]), ignore_errors=True)


class Family:
    """All processes that come from one command, known by a mark in their environment.

    nginx writes its title over its environment, but stays in supervisor's session.
    """

    def __init__(self) -> None:
        self._mark = f"SLOWPOOL_TEST_{uuid.uuid4().hex}"
        self._leaders: dict[int, psutil.Process | None] = {}  # of each session; None: it has gone

    @property
    def environment(self) -> dict[str, str]:
        """To be added to the command's environment."""
        return {self._mark: "1"}

    def note_sessions(self) -> list[psutil.Process]:
        """Find the processes, and their sessions, while those that have the mark still run."""
        running = [
            process
            for process in psutil.process_iter(["environ", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
        ]
        marked = [process for process in running if self._mark in (process.info["environ"] or {})]
        for number, known in list(self._leaders.items()):
            if leader(number) not in (None, known):
                del self._leaders[number]  # of other processes by now: the kernel gives pids again
        for number in {session(process.pid) for process in marked} - {0, session(0)}:
            self._leaders.setdefault(number, leader(number))
        return [process for process in running if process in marked or session(process.pid) in self._leaders]

    def assert_gone(self) -> None:
        """Raise AssertionError, naming them, when processes are left; one may be just ending."""
        wait_until(lambda: not self.note_sessions(), what=f"{self.note_sessions()} to be gone")

    def kill(self) -> None:
        """End what is left."""
        for process in self.note_sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def leader(number: int) -> psutil.Process | None:
    """The process that began a session; None when it has gone."""
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


def session(pid: int) -> int:
    """The session of a process; 0 when it has gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def system_ports(settings: Mapping[str, object]) -> dict[str, object]:
    """Free ports for all that the settings ask for and do not place themselves."""
    ports: dict[str, object] = {f"{name}_PORT": free_ports() for name in ("HTTP", "HTTPS", "ADMIN")}
    for pool in ("FAST", "SLOW"):
        ports[f"{pool}_PORT"] = free_ports(int(str(settings.get(f"{pool}_PROCESSES", 2))))
    return ports
