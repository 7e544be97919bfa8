"""Spawner: has a template start the workers of an instance, and replaces it when it ends."""

import array
import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from slowpool.config import Config
from slowpool.errors import AppError
from slowpool.linux import processes
from slowpool.workers.child import Options
from slowpool.workers.output import OutputLog
from slowpool.workers.process import POLL_SECONDS, Process, describe, end_strays, exists, spared
from slowpool.workers.template import (
    AFRESH,
    EXITED,
    FAILED,
    READY,
    REFUSED,
    REPORT,
    START,
    STARTED,
    WITH_PIDFD,
    command,
)

log = logging.getLogger("slowpool.worker")

RESTART_DELAY_SECONDS = (0.1, 3.0)
"""The first and the longest pause between attempts to start a process."""

START_TIMEOUT_SECONDS = 30.0
"""How long a template may take to start a worker before it is replaced."""

MAX_FDS = 16
"""The most pidfds that are received at once."""

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a template may take to end before it is killed."""


class Spawner:
    """Starts worker processes by a template, which it replaces when it ends; the workers go on.

    ``modules`` are those that a template imports.

    The instance should adopt orphans, or how a worker ended is not known once its template has ended.
    """

    def __init__(self, config: Config) -> None:
        self.template_pid = 0
        self.forks = True
        self.modules = [config.app.partition(":")[0]]
        self._config = config
        self._template: _Template | None = None
        self._is_ready = asyncio.Event()
        self._replacing: asyncio.Task[None] | None = None
        self._processes: set[Process] = set()
        self._options = Options(
            config.slow_nice,
            sorted(config.worker_cpus),
            config.slow_max_memory_bytes,
            config.slow_sandbox,
            config.slow_max_result_bytes,
            config.log_level,
        )

    async def start(self) -> None:
        """Start the template; returns when it has warmed up. Raises AppError when a warm function fails."""
        template = _Template(self._config, self._options, self)
        await template.start()
        self._template, self.template_pid = template, template.pid
        self._is_ready.set()

    async def spawn(self, fds: Sequence[int]) -> Process:
        """Start a worker with these file descriptors: those of Ends, and its output. Raises OSError."""
        while (template := self._template) is None:  # it may be gone again before this task goes on
            await self._is_ready.wait()
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                return await template.spawn(fds)
        except TimeoutError:
            self.replace_template()
            raise

    def replace_template(self) -> None:
        """Kill a template that does not answer."""
        if self._template:
            self._template.kill()

    async def close(self) -> None:
        """End the template, and all processes that are left."""
        if self._replacing:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        if self._template:
            await self._template.close()
            self._template = None
            self._is_ready.clear()
        for process in self._processes:
            process.kill()
        if self._processes:
            await asyncio.wait([process.exited for process in self._processes])

    def say_why_afresh(self, why: str) -> None:
        """Log why workers are not forked, once."""
        if self.forks:
            log.warning("each worker is started afresh, not forked from a warm process: %s", why)
            self.forks = False

    def add(self, process: Process) -> None:
        """Remember a process until it has ended."""
        self._processes.add(process)
        process.exited.add_done_callback(lambda _: self._processes.discard(process))

    def on_template_gone(self, how: str) -> None:
        """Watch the workers of a template that has ended, and start another."""
        log.error("template %d %s; another one is started, and its workers go on", self.template_pid, how)
        self._is_ready.clear()
        self._template = None
        self._replacing = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        delay, longest = RESTART_DELAY_SECONDS
        while True:
            try:
                return await self.start()
            except AppError as error:
                log.error("cannot start a template, next try in %g s: %s\n%s", delay, error, error.traceback)
            except OSError as error:
                log.error("cannot start a template, next try in %g s: %s", delay, error)
            except Exception:  # a fault of ours must not leave the instance without workers
                log.exception("cannot start a template, next try in %g s", delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)


class _Template:
    """One template process, as its instance sees it."""

    def __init__(self, config: Config, options: Options, spawner: Spawner) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self._config = config
        self._options = options
        self._spawner = spawner
        self._numbers = itertools.count(1)
        self._starting: dict[int, asyncio.Future[Process]] = {}
        self._running: dict[int, Process] = {}
        self._ready: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._received = bytearray()
        self._fds: list[int | None] = []
        self._is_closing = False

    async def start(self) -> None:
        """Start the process; returns when it takes requests. Raises OSError and AppError."""
        config = self._config
        forks = config.slow_fork and sys.platform == "linux"
        if not forks:
            self._spawner.say_why_afresh("SLOW_FORK=0" if not config.slow_fork else "this is not Linux")
        self._control, there = socket.socketpair()
        self._control.setblocking(False)
        output, output_there = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # takes as long as a fork
                command("template", there.fileno(), tuple(self._options), self._spawner.modules, forks),
                stdin=subprocess.DEVNULL,
                stdout=output_there,
                stderr=output_there,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        except OSError:
            self._control.close()
            os.close(output)
            raise
        finally:
            there.close()
            os.close(output_there)
        self.pid = self._process.pid
        spared.add(self.pid)
        self._output = OutputLog(output, self.pid, "template")
        asyncio.get_running_loop().add_reader(self._control, self._on_readable)
        try:
            await asyncio.shield(self._ready)
        except BaseException:  # cancelled too
            self._is_closing = True
            self.kill()
            await asyncio.wait([self._gone])
            raise

    async def spawn(self, fds: Sequence[int]) -> Process:
        """Start a worker. Raises OSError."""
        number = next(self._numbers)
        started = self._starting[number] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._control, [START.pack(number)], fds)
        except OSError as error:
            del self._starting[number]
            raise OSError(error.errno, f"template {self.pid} takes no request") from error
        process: Process = await started
        return process

    def kill(self) -> None:
        """Kill the process and what warming up has started, unless it has been waited for."""
        if self._process.returncode is None:  # workers have groups of their own
            processes.kill_group(self.pid)

    async def close(self) -> None:
        """Have the process end: it kills its workers. Returns when it has."""
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        await asyncio.wait([self._gone], timeout=CLOSE_TIMEOUT_SECONDS)
        self.kill()
        await asyncio.wait([self._gone])

    def _on_readable(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self.kill()
            self._wait()
            return
        self._received += data
        while len(self._received) >= REPORT.size:
            kind, number, value, size = REPORT.unpack_from(self._received)
            end = REPORT.size + size
            if len(self._received) < end:
                break
            text = self._received[REPORT.size : end].decode()
            del self._received[:end]
            self._take(kind, number, value, text)

    def _receive(self) -> bytes:
        """Read what has come, and the file descriptors with it, which no process inherits."""
        fds = array.array("i")
        space = socket.CMSG_LEN(MAX_FDS * fds.itemsize)
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        data, ancillary, received, _ = self._control.recvmsg(65536, space, flags)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        self._fds += fds
        if received & socket.MSG_CTRUNC:  # this process had no file descriptor left
            self._fds.append(None)
        return data

    def _take(self, kind: bytes, number: int, value: int, text: str) -> None:
        if kind == READY:
            self._output.end()  # what comes later is not left out for what warming up has printed
            self._ready.set_result(None)
        elif kind == AFRESH:
            self._spawner.say_why_afresh(text)
        elif kind == FAILED:
            line, _, traceback = text.partition("\n")
            what = f"APP={self._config.app} has a function marked with @slowpool.warm that fails: {line}"
            self._ready.set_exception(AppError(what, traceback))
            self._is_closing = True
        elif kind == STARTED:
            process = self._running[number] = Process(value, self._fds.pop(0) if text == WITH_PIDFD else None)
            self._spawner.add(process)
            started = self._starting.pop(number)
            if started.done():  # given up
                process.kill()
            else:
                started.set_result(process)
        elif kind == REFUSED:
            started = self._starting.pop(number)
            if not started.done():
                started.set_exception(OSError(value, os.strerror(value)))
        elif kind == EXITED:
            self._running.pop(number).end(describe(value))

    def _wait(self) -> None:
        """Wait for the end of the process. Only then its children are the instance's."""
        if exists(self.pid):
            asyncio.get_running_loop().call_later(POLL_SECONDS, self._wait)
            return
        spared.discard(self.pid)
        how = describe(self._process.wait())
        self._output.close()
        for started in self._starting.values():
            if not started.done():
                started.set_exception(OSError(f"template {self.pid} {how}"))
        for fd in self._fds:
            if fd is not None:
                os.close(fd)
        for process in self._running.values():
            process.watch_as_orphan()
        end_strays(self.pid)
        if not self._ready.done():
            self._ready.set_exception(OSError(f"template {self.pid} {how}"))
            self._ready.exception()  # start() may have been cancelled
        elif not self._is_closing:
            self._spawner.on_template_gone(how)
        self._gone.set_result(None)
