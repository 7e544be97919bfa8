"""The watchdog under a real supervisor, with less patience, and stand-ins or instances to watch."""

import os
import re
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from tests.support.basics import ROOT, Entered, environment, free_ports, wait_until
from tests.support.process import APPS, Process

SUPERVISOR = """
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
silent=true
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[eventlistener:watchdog]
command={python} {folder}/watchdog.py
events=PROCESS_STATE_STARTING,PROCESS_STATE_BACKOFF,PROCESS_STATE_EXITED,PROCESS_STATE_FATAL
stdout_logfile=NONE
stderr_logfile=/dev/stdout
stderr_logfile_maxbytes=0
[program:fast]
command={python} -m {program}
startsecs={start_seconds}
process_name=fast-%(process_num)d
numprocs=2
numprocs_start={port}
autorestart=true
redirect_stderr=true
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
"""
WATCHDOG = """
from deploy.supervise import watchdog
watchdog.PROBE_INTERVAL_SECONDS = 0.1
watchdog.FAST_HUNG_SECONDS = 1.5
watchdog.BUSY_SECONDS = {busy_seconds}
watchdog.main()
"""


class Watched(Entered):
    """supervisor, the watchdog and two stand-ins; ``ways`` is how they behave from the start.

    supervisor takes a program that ends within ``start_seconds`` for one that cannot start. An instance that
    makes progress may be silent for ``busy_seconds`` more.
    """

    program = "tests.apps.stand_in {folder} %(process_num)d"

    def __init__(
        self, *ways: str, start_seconds: int = 1, busy_seconds: int = 300, **settings: object
    ) -> None:
        self.ports = [first := free_ports(2), first + 1]
        self._ways = ways
        self._start_seconds = start_seconds
        self._busy_seconds = busy_seconds
        placed = {"FAST_PORT": first, "FAST_PROCESSES": 2, "SLOW_PORT": free_ports(2)}
        self._settings = {**placed, "LOG_FORMAT": "console", **settings}

    def enter(self, parts: ExitStack) -> None:
        # pytest's own folders have paths too long for supervisor's socket.
        self.folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="slowpool-")))
        self.tell(*self._ways)
        values = {"folder": self.folder, "python": sys.executable, "port": self.ports[0]}
        values |= {"program": self.program.format(**values), "start_seconds": self._start_seconds}
        (self.folder / "supervisord.conf").write_text(SUPERVISOR.format(**values))
        (self.folder / "watchdog.py").write_text(WATCHDOG.format(busy_seconds=self._busy_seconds))
        env = {
            **environment(self._settings),
            "SLOWPOOL_PROGRAMS": "fast",
            "SLOWPOOL_RUN_DIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(APPS), str(ROOT)]),
        }
        command = [
            sys.executable,
            "-m",
            "deploy.supervise.supervisord",
            "-c",
            str(self.folder / "supervisord.conf"),
        ]
        self.process = parts.enter_context(Process(command, ROOT, env))
        parts.callback(self._end)
        wait_until((self.folder / "supervisor.sock").exists)

    def tell(self, *ways: str) -> None:
        """Have both stand-ins behave in these ways from now on, and in no other."""
        for port in self.ports:
            self.tell_one(port, *ways)

    def tell_one(self, port: int, *ways: str) -> None:
        for file in self.folder.glob(f"{port}.*"):
            file.unlink()
        for way in ways:
            (self.folder / f"{port}.{way}").touch()

    def proxy(self) -> ServerProxy:
        """A connection to supervisor."""
        transport = SupervisorTransport(None, None, f"unix://{self.folder}/supervisor.sock")
        return ServerProxy("http://127.0.0.1", transport=transport)

    def pid(self, program: str) -> int:
        """The process of a program, 0 where none runs."""
        with self.proxy() as proxy:
            info: Any = proxy.supervisor.getProcessInfo(program)
            return int(info["pid"])

    def kills(self, port: int) -> int:
        """How often the watchdog has killed a stand-in for having hung."""
        return self.process.output.count(f"fast:fast-{port} has not answered for 1.5 s: killing it")

    def answers(self, port: int) -> int:
        """How many probes a stand-in has answered since it was told how to behave."""
        file = self.folder / f"{port}.answers"
        return len(file.read_text()) if file.exists() else 0

    def ends(self, port: int) -> int:
        """How often a program has ended by itself."""
        return len(re.findall(rf"fast:fast-{port} is (EXITED|BACKOFF|FATAL)", self.process.output))

    def peak_bytes(self) -> int:
        """The most memory that the watchdog has had resident."""
        status = Path(f"/proc/{self.pid('watchdog')}/status").read_text()
        return int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[0]) << 10

    def _end(self) -> None:
        self.tell()
        if self.process.running:
            self.process.signal(signal.SIGINT)
            self.process.wait()


class WatchedInstances(Watched):
    """The same with real instances, which are ready."""

    program = "slowpool serve --pool=fast --port=%(process_num)d"

    def enter(self, parts: ExitStack) -> None:
        super().enter(parts)
        for port in self.ports:
            self.process.wait_for_output(f"fast:{port} is ready")
