"""Ending a local run: in order, saying what it waits for, or at once."""

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
from xmlrpc.client import Error  # nosec B411  # supervisor answers, nobody else

from slowpool.config import Config

QUIET_SECONDS = 5.0
"""Where no request is open, a stop is this long without a word on what it waits for: supervisor takes about
a second for each group of programs."""

WORD_SECONDS = 5.0
"""How often it says so."""

ASK_SECONDS = 0.5
"""What an instance gets to say how many requests it has open."""

ANSWERS_SECONDS = 2.0
"""After their second signal, what instances get for the answers to the jobs that they cut off."""

LEAVE_SECONDS = 1.0
"""After its second signal, what nginx gets to go."""

POLL_SECONDS = 0.05


class Signals:
    """SIGINT, SIGTERM and SIGHUP as they come in: the first asks for a stop, another one for an end at once.

    SIGHUP does not count as another one: when a terminal is closed, it may come twice.
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
    supervisor: subprocess.Popen[bytes],
    api: Callable[[], Any],
    config: Config,
    signals: Signals,
    settled_at: float,
) -> int:
    """Have supervisor end all programs, and return its exit status.

    It takes ``STOP_GRACE_SECONDS`` at most, after which, or at a second signal, everything ends at once.
    Before ``settled_at`` supervisor is not told. ``api`` connects to it, anew for each call: a connection
    that has failed once is of no more use.
    """
    say("slowpool: drains and stops")
    ends_at = max(time.monotonic(), settled_at) + config.stop_grace_seconds
    programs = _programs(api)
    busy = _open_requests(supervisor, programs)
    next_word_at = 0.0 if busy else max(time.monotonic(), settled_at) + QUIET_SECONDS
    while time.monotonic() < settled_at and not signals.force:
        next_word_at = _say_what_is_waited_for(supervisor, programs, ends_at, next_word_at)
        time.sleep(POLL_SECONDS)
    programs = _programs(api)  # some may have been about to start
    _close_websockets(api)
    supervisor.terminate()
    while supervisor.poll() is None:
        if signals.force:
            return _end_at_once(supervisor, programs, "a second signal")
        if time.monotonic() > ends_at:
            return _end_at_once(supervisor, programs, f"STOP_GRACE_SECONDS={config.stop_grace_seconds}")
        next_word_at = _say_what_is_waited_for(supervisor, programs, ends_at, next_word_at)
        time.sleep(POLL_SECONDS)
    return supervisor.returncode


def say(line: str) -> None:
    """Print a line; the terminal may have gone."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def _programs(api: Callable[[], Any]) -> dict[str, int]:
    """Name -> process of what supervisor runs; once it ends, it does not say."""
    with contextlib.suppress(OSError, HTTPException, Error):
        return {one["name"]: one["pid"] for one in api().getAllProcessInfo() if one["pid"]}
    return {}


def _close_websockets(api: Callable[[], Any]) -> None:
    """End what does not end by itself: nginx stops first, and waits for its connections."""
    with contextlib.suppress(OSError, HTTPException, Error):
        api().stopProcess("nginx:nginx", False)  # it takes no new ones from now on
        api().signalProcessGroup("fast", "USR1")


def _say_what_is_waited_for(
    supervisor: subprocess.Popen[bytes], programs: dict[str, int], ends_at: float, at: float
) -> float:
    """Do so if it is time; when it is next."""
    if time.monotonic() < at:
        return at
    waited_for = _open_requests(supervisor, programs) or [
        name.replace("-", ":")
        for name, pid in programs.items()
        if name != "watchdog" and _runs(supervisor, pid)
    ]
    if waited_for:
        seconds = max(0, ends_at - time.monotonic())
        say(
            f"slowpool: waits for {', '.join(waited_for)}, for {seconds:.0f} s at most; "
            "Ctrl-C again ends everything at once"
        )
    return time.monotonic() + WORD_SECONDS


def _open_requests(supervisor: subprocess.Popen[bytes], programs: dict[str, int]) -> list[str]:
    """The instances that have requests open, or do not say, each with how many."""
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
    """How many requests an instance has open; None when it does not answer, 0 when it does not listen."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode(errors="replace")
    except ConnectionRefusedError:
        return 0
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    counts = re.findall(r"^http_server_active_requests\{[^}]*\} (\d+)", text, re.MULTILINE)
    return sum(map(int, counts))


def _end_at_once(supervisor: subprocess.Popen[bytes], programs: dict[str, int], reason: str) -> int:
    """Send the programs their own second signal, and SIGKILL to what it does not end."""
    say(f"slowpool: ends at once, after {reason}")
    nginx = [pid for name, pid in programs.items() if name == "nginx"]
    instances = [pid for name, pid in programs.items() if name.startswith(("fast-", "slow-"))]
    for number in (signal.SIGTERM, signal.SIGINT):  # one of them may be the first that it gets
        _send(supervisor, instances, number)
    _wait(supervisor, instances, ANSWERS_SECONDS)
    _send(supervisor, nginx, signal.SIGTERM)  # after the instances, whose last answers it hands on
    _wait(supervisor, nginx, LEAVE_SECONDS)
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
    """Signal processes; SIGKILL is for all that is in their groups."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if _runs(supervisor, pid):
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)


def _runs(supervisor: subprocess.Popen[bytes], pid: int) -> bool:
    """Whether a process is there and is supervisor's, whose session it is in."""
    try:
        return os.getsid(pid) == supervisor.pid
    except ProcessLookupError:
        return False


def _children(pid: int) -> list[int]:
    """The children of a process, where the system says so (Linux)."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
