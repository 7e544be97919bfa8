"""Stop a local run: in order, while printing what it waits for, or at once."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error  # nosec B411  # only supervisor answers

from slowpool.config import Config

QUIET_SECONDS = 5.0
"""When no request is open, nothing is printed for this long: supervisor needs about a second for each group
of programs."""

REPORT_SECONDS = 5.0
"""How often it prints what it waits for."""

COUNT_TIMEOUT_SECONDS = 0.5
"""How long an instance may take to report its open requests."""

ANSWERS_SECONDS = 2.0
"""How long instances may take, after their second signal, to answer the jobs that they cut off."""

NGINX_EXIT_SECONDS = 1.0
"""How long nginx may take to exit after its second signal."""

POLL_SECONDS = 0.05


class Signals:
    """Handles SIGINT, SIGTERM and SIGHUP: the first sets ``stop``, the next one ``force``.

    SIGHUP never sets ``force``: it may come twice when a terminal is closed.
    """

    def __init__(self) -> None:
        self.stop = False
        self.force = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.force = self.force or (self.stop and number != signal.SIGHUP)
        self.stop = True


def stop(
    supervisor: subprocess.Popen[bytes], api: Callable[[], Any], config: Config, signals: Signals
) -> int:
    """Make supervisor stop all programs, and return its exit status.

    After ``STOP_GRACE_SECONDS``, or at a second signal, everything is stopped at once. ``api`` makes a new
    connection to supervisor for each call, since one that has failed cannot be used again.
    """
    say("slowpool: draining and stopping")
    ends_at = time.monotonic() + config.stop_grace_seconds
    programs = _programs(api)
    busy = _open_requests(supervisor, programs)
    report_at = 0.0 if busy else time.monotonic() + QUIET_SECONDS
    _end_streams(api)
    supervisor.terminate()
    while supervisor.poll() is None:
        if signals.force:
            return _stop_at_once(supervisor, programs, "a second signal")
        if time.monotonic() > ends_at:
            return _stop_at_once(supervisor, programs, f"STOP_GRACE_SECONDS={config.stop_grace_seconds}")
        report_at = _report(supervisor, programs, ends_at, report_at)
        time.sleep(POLL_SECONDS)
    started_nothing = supervisor.returncode == -signal.SIGTERM  # which it does not note yet
    return 0 if started_nothing else supervisor.returncode


def say(line: str) -> None:
    """Print a line, unless the terminal is gone."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def _programs(api: Callable[[], Any]) -> dict[str, int]:
    """Program -> pid; empty once supervisor is shutting down."""
    with contextlib.suppress(OSError, HTTPException, Error):
        return {one["name"]: one["pid"] for one in api().getAllProcessInfo() if one["pid"]}
    return {}


def _end_streams(api: Callable[[], Any]) -> None:
    """Stop nginx and make the instances end WebSockets and streams, for which nginx would wait."""
    with contextlib.suppress(OSError, HTTPException, Error):
        api().stopProcess("nginx:nginx", False)  # it accepts no new connections from now on
        for pool in ("fast", "slow"):
            api().signalProcessGroup(pool, "USR1")


def _report(
    supervisor: subprocess.Popen[bytes], programs: dict[str, int], ends_at: float, report_at: float
) -> float:
    """Print what the stop waits for, if it is time to; return when to print next."""
    if time.monotonic() < report_at:
        return report_at
    waited_for = _open_requests(supervisor, programs) or [
        name.replace("-", ":")
        for name, pid in programs.items()
        if name != "watchdog" and _runs(supervisor, pid)
    ]
    if waited_for:
        seconds = max(0, ends_at - time.monotonic())
        say(
            f"slowpool: waiting for {', '.join(waited_for)}, at most {seconds:.0f} s; "
            "press Ctrl-C again to stop at once"
        )
    return time.monotonic() + REPORT_SECONDS


def _open_requests(supervisor: subprocess.Popen[bytes], programs: dict[str, int]) -> list[str]:
    """Describe each instance that has open requests or does not answer."""
    instances = [
        (name, int(name.rpartition("-")[2]))
        for name, pid in programs.items()
        if name.startswith(("fast-", "slow-")) and _runs(supervisor, pid)
    ]
    if not instances:
        return []
    with ThreadPoolExecutor(len(instances)) as executor:
        counts = list(executor.map(_count_requests, [port for _, port in instances]))
    return [
        f"{name.replace('-', ':')} ({f'open requests: {count}' if count else 'does not answer'})"
        for (name, _), count in zip(instances, counts, strict=True)
        if count != 0
    ]


def _count_requests(port: int) -> int | None:
    """Return the number of open requests: None when it does not answer, 0 when it does not listen."""
    connection = HTTPConnection("127.0.0.1", port, timeout=COUNT_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/-/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode(errors="replace")
    except ConnectionRefusedError:
        return 0
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    counts = re.findall(r"^http_server_active_requests\{[^}]*\} (\d+)", text, re.MULTILINE)
    return sum(map(int, counts))


def _stop_at_once(supervisor: subprocess.Popen[bytes], programs: dict[str, int], reason: str) -> int:
    """Send the programs a second signal, then SIGKILL to those that still run."""
    say(f"slowpool: stopping at once after {reason}")
    nginx = [pid for name, pid in programs.items() if name == "nginx"]
    instances = [pid for name, pid in programs.items() if name.startswith(("fast-", "slow-"))]
    for number in (signal.SIGTERM, signal.SIGINT):  # supervisor may not have sent the first signal yet
        _send(supervisor, instances, number)
    _wait(supervisor, instances, ANSWERS_SECONDS)
    _send(supervisor, nginx, signal.SIGTERM)  # after the instances, whose last answers it passes on
    _wait(supervisor, nginx, NGINX_EXIT_SECONDS)
    _send(supervisor, [*programs.values(), *_children(supervisor.pid)], signal.SIGKILL)
    try:
        return supervisor.wait(QUIET_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        return supervisor.wait()


def _wait(supervisor: subprocess.Popen[bytes], pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(_runs(supervisor, pid) for pid in pids) and time.monotonic() < deadline:
        supervisor.poll()
        time.sleep(POLL_SECONDS)


def _send(supervisor: subprocess.Popen[bytes], pids: list[int], number: signal.Signals) -> None:
    """Signal processes; SIGKILL goes to their process groups."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if _runs(supervisor, pid):
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)


def _runs(supervisor: subprocess.Popen[bytes], pid: int) -> bool:
    """Whether a process exists and is in supervisor's session."""
    try:
        return os.getsid(pid) == supervisor.pid
    except ProcessLookupError:
        return False


def _children(pid: int) -> list[int]:
    """Return the children of a process; empty except on Linux."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
