"""Process: a worker's process as its instance sees it, whoever its parent is."""

import asyncio
import contextlib
import os
import select
import signal

from slowpool.linux import processes
from slowpool.linux.memory import has_volunteered

POLL_SECONDS = 0.01
"""How often a process is looked at where there is no pidfd_open(2), and for what one has left."""


class Process:
    """A worker's process, which the template has started and waits for.

    ``exited`` is a future of how it ended, such as "was killed by SIGKILL".
    """

    def __init__(self, pid: int, pidfd: int | None) -> None:
        self.pid = pid
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pidfd = pidfd

    def kill(self) -> None:
        """Kill the process; what it leaves is killed as soon as it has ended."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send the process a signal, unless it has ended."""
        if self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.pidfd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)

    def has_ended(self) -> bool:
        """Whether it has, even if the event loop has not noticed yet."""
        return self.exited.done() or (self.pidfd is not None and _is_readable(self.pidfd))

    def end(self, how: str) -> None:
        """Note how the process ended."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.exited.set_result(how)

    def watch_as_orphan(self) -> None:
        """Note how the process ends from now on, since its template has ended.

        It is then a child of the instance, if that adopts orphans. Otherwise how it ended is not known.
        """
        spared.add(self.pid)
        loop = asyncio.get_running_loop()
        if self.pidfd is not None:
            loop.add_reader(self.pidfd, self._on_pidfd, self.pidfd)
        elif exists(self.pid):
            loop.call_later(POLL_SECONDS, self.watch_as_orphan)
        else:
            self._wait()

    def _on_pidfd(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        self._wait()

    def _wait(self) -> None:
        processes.kill_group(self.pid)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            how = "ended, and how is not known, since its template had ended"
        else:
            how = describe(os.waitstatus_to_exitcode(status))
        spared.discard(self.pid)
        _kill_strays()
        self.end(how)


spared: set[int] = set()
"""Pids of templates, and of workers whose template has ended: children of the instance that are no strays."""


def end_strays(template_pid: int) -> None:
    """Wait for what a template has left to the instance beside workers that the instance knows.

    It is in the template's process group, which has been killed, or a worker of which nobody has been told.
    """
    _kill_strays()
    with contextlib.suppress(ChildProcessError, AttributeError):
        while os.waitid(os.P_PGID, template_pid, os.WEXITED | os.WNOHANG):
            pass
        asyncio.get_running_loop().call_later(POLL_SECONDS, end_strays, template_pid)


def _kill_strays() -> None:
    """Kill what such workers have left to the instance, and nothing that the application has started in it.

    A worker volunteers for the OOM killer before it leaves its template's group, and a template does while it
    warms up; what they start inherits that.
    """
    if has_volunteered():
        return
    strays = [pid for pid in processes.children() - spared if has_volunteered(pid)]
    for pid in strays:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
    if strays:  # what they leave comes to the instance too
        asyncio.get_running_loop().call_later(POLL_SECONDS, _kill_strays)


def describe(status: int) -> str:
    """How a process ended: its exit status, negative for a signal, as text."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"


def exists(pid: int) -> bool:
    """Whether the process is there and no zombie, which a parent has to wait for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except (ChildProcessError, AttributeError):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
    return False


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
