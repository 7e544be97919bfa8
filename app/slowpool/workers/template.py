"""The template: the process that starts the workers of a slow instance, and that they are forked from.

It imports the application's modules and warms up, once. A worker that is forked from it has all that at once,
and shares its memory. Where a fork is not safe it has nothing of the application, and starts each worker
afresh.

It is the parent of the workers. What a worker leaves behind becomes its child, and is killed. When the
instance ends, it kills all of them, and ends too. When it is the one that ends, the workers go on.
"""

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from slowpool.linux import lifeline, processes, sandbox
from slowpool.linux.memory import volunteering_for_oom_killer
from slowpool.linux.scheduling import set_group_nice
from slowpool.workers import child, records, warm
from slowpool.workers.child import Ends, Options

START = struct.Struct("!Q")
"""From the instance: number of the worker, with the file descriptors of Ends and one for its output."""

REPORT = struct.Struct("!cQqI")
"""To the instance: kind, number of the worker, value, size of the text that follows."""

READY = b"R"  # it takes requests
AFRESH = b"A"  # workers will not be forked; text: why
FAILED = b"F"  # a function marked with @slowpool.warm has failed; text: the error's line, and its traceback
STARTED = b"S"  # value: pid; text: whether a pidfd is sent with it
REFUSED = b"N"  # a worker could not be started; value: errno
EXITED = b"X"  # value: exit status, negative for a signal

WITH_PIDFD = "with a pidfd"

WARM_UP_NICE = 10
"""Highest niceness of the template's group while it warms up: it gives way, and never starves."""

BOOTSTRAP = (
    "import sys; from ast import literal_eval; sys.path[:] = literal_eval(sys.argv[2]); "
    "from slowpool.workers.{module} import main; main(*literal_eval(sys.argv[1]))"
)


def command(module: str, *arguments: object) -> list[str]:
    """The command line of a fresh process that runs ``main`` of a module of this room."""
    return [sys.executable, "-c", BOOTSTRAP.format(module=module), repr(arguments), repr(sys.path)]


def main(control_fd: int, options: tuple[Any, ...], modules: list[str], fork: bool) -> None:
    """Start workers as the instance asks for them on ``control_fd``, until it closes it."""
    processes.set_name("slow-template")
    processes.adopt_orphans()
    control = socket.socket(fileno=control_fd)
    # What warming up starts must not have it: the instance would not see the end of this process.
    control.set_inheritable(False)
    os.register_at_fork(after_in_child=control.close)
    template = _Template(control, Options(*options), modules, fork)
    records.install(template.options.log_level)
    if template.options.sandboxed:
        sandbox.enter()  # for the workers too
    with contextlib.closing(template):
        if not fork or template.warm_up():
            template.serve()


class _Template:
    """The state of this process: the workers that live, each with its number."""

    def __init__(self, control: socket.socket, options: Options, modules: list[str], fork: bool) -> None:
        self.options = options
        self._control = control
        self._modules = modules
        self._fork = fork
        self._has_priority = True
        self._wake = socket.socketpair()  # a signal wakes the loop up by it
        self._workers: dict[int, int] = {}  # pid -> number
        self._own: set[int] = set()  # children that warming up has started

    def warm_up(self) -> bool:
        """Import and warm up; returns whether that went well.

        Does not return where a fork would not be safe: the process then runs a new program.
        """
        lifeline.hold(self._control.fileno())  # a model may take minutes to load
        set_group_nice(min(WARM_UP_NICE, self.options.nice))
        failure = ""
        connections = processes.count_connections()
        try:
            with volunteering_for_oom_killer():  # the instance knows what this starts by that: process.py
                warm.warm_up(self._modules)
        except (Exception, SystemExit) as error:
            *_, last = traceback.format_exception_only(error)
            failure = f"{last.strip()}\n{traceback.format_exc()}"
        self._has_priority = set_group_nice(0)
        lifeline.release(self._control.fileno())
        if failure:
            self._report(FAILED, text=failure)
            return False
        if why := self._why_not_fork(processes.count_connections() - connections):
            self._report(AFRESH, text=why)
            # A new program in this process: without the threads, and without the application's memory.
            child.flush()
            os.set_inheritable(self._control.fileno(), True)
            arguments = self._control.fileno(), tuple(self.options), self._modules, False
            os.execv(sys.executable, command("template", *arguments))
        self._own = processes.children()
        gc.collect()
        gc.freeze()  # a collection in a worker would copy what it touches
        return True

    def serve(self) -> None:
        """Start workers, and report how they end."""
        for end in self._wake:
            end.setblocking(False)
        wake, wake_there = self._wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        signal.set_wakeup_fd(wake_there.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        self._report(READY)
        with contextlib.suppress(ConnectionError):
            while True:
                for fd, _ in poll.poll():
                    if fd == wake.fileno():
                        with contextlib.suppress(BlockingIOError):
                            wake.recv(4096)
                        self._reap()
                    elif not self._start_one():
                        self._end()
                        return
        self._end()

    def close(self) -> None:
        """Close its sockets, before Python ends and says that they are open."""
        signal.set_wakeup_fd(-1)
        for sock in (self._control, *self._wake):
            sock.close()

    def _why_not_fork(self, connections: int) -> str:
        if connections > 0:  # workers would get each other's answers. An event loop has a connection too.
            return f"warming up has left connections open ({connections}), and workers must not share them"
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the application may ignore it
        # Some libraries, such as OpenBLAS, end their threads at a fork, and start others later.
        pid = _fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        count = processes.count_threads()
        if count == 1:
            return ""
        names = ", ".join(thread.name for thread in threading.enumerate() if thread.name != "MainThread")
        return f"{count} threads are alive after warming up{f', such as {names}' if names else ''}"

    def _start_one(self) -> bool:
        """Start a worker; returns False when the instance has closed its end."""
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        message, fds, _, _ = socket.recv_fds(self._control, START.size, len(Ends._fields) + 1, flags)
        if not message:
            return False
        self._has_priority = self._has_priority or set_group_nice(0)
        (number,) = START.unpack(message)
        try:
            *ends, output = fds
            pid = self._fork_worker(Ends(*ends), output) if self._fork else self._start_fresh(ends, output)
        except (OSError, TypeError, ValueError) as error:  # not all fds have come: this process had no room
            self._report(REFUSED, number, getattr(error, "errno", None) or errno.EMFILE)
        else:
            self._workers[pid] = number
            pidfd = processes.open_pidfd(pid)
            if pidfd is None:
                self._report(STARTED, number, pid)
            else:
                self._report(STARTED, number, pid, WITH_PIDFD, [pidfd])
                os.close(pidfd)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _start_fresh(self, ends: Sequence[int], output: int) -> int:
        process = subprocess.Popen(
            command("child", tuple(ends), tuple(self.options), self._modules),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=ends,
        )
        process.returncode = 0  # this module waits for it
        return process.pid

    def _fork_worker(self, ends: Ends, output: int) -> int:
        child.flush()
        pid = _fork()
        if pid:
            return pid
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in self._wake:
                end.close()
            for fd in (1, 2):
                os.dup2(output, fd)
            os.close(output)
            _reseed()
            child.run(ends, self.options)
            status = 0
        except SystemExit as error:
            status = _exit_status(error)
        except BaseException:
            traceback.print_exc()
        finally:
            # What is registered with atexit is the template's own, and must not run once for each worker.
            child.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Wait for the children that have ended; kill what they leave, and report the workers among them."""
        ended = []
        while child_and_status := _wait_for_one():
            pid, status = child_and_status
            if pid in self._workers:
                ended.append((self._workers.pop(pid), os.waitstatus_to_exitcode(status)))
        processes.kill_children({*self._workers, *self._own})
        for number, exit_code in ended:
            self._report(EXITED, number, exit_code)

    def _end(self) -> None:
        for pid in self._workers:
            processes.kill_group(pid)
        while processes.kill_children():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)

    def _report(
        self, kind: bytes, number: int = 0, value: int = 0, text: str = "", fds: Sequence[int] = ()
    ) -> None:
        body = text.encode(errors="backslashreplace")
        message = REPORT.pack(kind, number, value, len(body)) + body
        sent = socket.send_fds(self._control, [message], fds) if fds else 0
        self._control.sendall(message[sent:])


def _fork() -> int:
    """Fork, with only this thread alive, or with threads of libraries that end by themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        return os.fork()


def _wait_for_one() -> tuple[int, int] | None:
    """Kill the group of a child that has ended; returns its pid and status, None when there is none."""
    try:
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return None
            processes.kill_group(pid)
            return pid, status
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if not found:
            return None
        processes.kill_group(found.si_pid)
        return os.waitpid(found.si_pid, 0)
    except ChildProcessError:
        return None


def _reseed() -> None:
    """Give this process random numbers of its own. Python's own generator does that itself."""
    for name in ("numpy.random", "torch"):
        if module := sys.modules.get(name):
            module.seed()


def _exit_status(error: SystemExit) -> int:
    """The status with which Python would exit."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
