"""A worker as the instance sees it. The worker itself, the process, runs what child.py says."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import uuid

from slowpool.config import Config
from slowpool.workers.output import OutputLog
from slowpool.workers.wire import NOT_PICKLABLE, RAISED, READY, REQUEST, RESULT, Reply, ReplyReader

log = logging.getLogger("slowpool.worker")

START_TIMEOUT_SECONDS = 30.0

EXIT_POLL_SECONDS = 0.01
"""How often the handle checks whether the process has ended, where there is no pidfd_open(2)."""

BOOTSTRAP = (
    "import sys; from ast import literal_eval; sys.path[:] = literal_eval(sys.argv[2]); "
    "from slowpool.workers.child import main; main(*literal_eval(sys.argv[1]))"
)


class WorkerHandle(asyncio.Protocol):
    """Starts, feeds and kills one worker: a process in a session of its own. To be made in an event loop.

    ``reply`` is a future of the reply to the job that was sent last, ``exited`` one of how the process ended,
    such as "was killed by SIGKILL".

    The instance has the other ends of three things of the worker: a channel for jobs, of which this is also
    the asyncio protocol; a pipe for its output; and a lifeline, a socket whose end means the instance's end.
    """

    def __init__(self, config: Config) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.killed = False
        self.jobs = 0
        self.resident_bytes = 0
        self.reply: asyncio.Future[Reply] = loop.create_future()
        self.exited: asyncio.Future[str] = loop.create_future()
        self._config = config
        self._max_reply_bytes = config.slow_max_memory_bytes or (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        )
        self._reader = ReplyReader(0, {READY}, self._max_reply_bytes)
        self._fault = ""
        self._marker = f"SLOWPOOL_WORKER={uuid.uuid4().hex}"

    async def start(self) -> None:
        """Start the process and wait until it takes jobs. Raises OSError when it does not."""
        channel, channel_there = socket.socketpair()
        with channel_there:
            loop = asyncio.get_running_loop()
            self._channel, _ = await loop.create_connection(lambda: self, sock=channel)
            self._lifeline, lifeline_there = socket.socketpair()
            output, output_there = os.pipe()
            try:
                with lifeline_there:
                    self._process = self._spawn(channel_there, lifeline_there, output_there)
            except OSError:
                self._channel.abort()
                self._lifeline.close()
                os.close(output)
                raise
            finally:
                os.close(output_there)
        self.pid = self._process.pid
        self._output = OutputLog(output, self.pid)
        self._watch_exit()
        ends: list[asyncio.Future[Reply] | asyncio.Future[str]] = [self.reply, self.exited]
        await asyncio.wait(ends, timeout=START_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not self.reply.done():
            await self.kill()
            raise OSError(f"worker {self.pid} did not become ready: it {self.exited.result()}")

    def has_died(self) -> bool:
        """Whether the process has ended or been killed, even if the event loop has not noticed yet."""
        if self.killed or self.exited.done() or not hasattr(os, "waitid"):
            return self.killed or self.exited.done()
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def send(self, request: bytes, request_id: str) -> None:
        """Start a job: ``request`` is the pickle of ``(task, args, kwargs)``."""
        self.jobs += 1
        number = secrets.randbits(64)
        self.reply = asyncio.get_running_loop().create_future()
        self._reader = ReplyReader(number, {RESULT, RAISED, NOT_PICKLABLE}, self._max_reply_bytes)
        self._output.begin(request_id)
        self._channel.writelines([REQUEST.pack(number, len(request)), request])

    def end_job(self) -> None:
        """Log the rest of the output of the job that has just replied."""
        self._output.end()

    async def kill(self) -> None:
        """Kill the process and everything it started; returns when the process is gone."""
        if not self.exited.done():
            self.killed = True
            self._kill_group()
        await asyncio.shield(self.exited)

    async def stop(self, timeout_seconds: float) -> None:
        """Ask the idle process to end, if it was started, and kill it if it does not in time."""
        if not self.pid:
            return
        self._channel.close()
        try:
            await asyncio.wait([self.exited], timeout=timeout_seconds)
        finally:  # cancelled too
            await self.kill()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what comes from the worker, or from a process that a task left behind."""
        try:
            reply = self._reader.feed(data)
        except ValueError as fault:
            self._reject(str(fault))
        else:
            if reply:
                self.resident_bytes = reply.resident_bytes
                self.reply.set_result(reply)

    def _reject(self, fault: str) -> None:
        """Kill the process: after such bytes nobody knows which job a reply belongs to."""
        self.killed = True
        self._fault = f" after it sent {fault}"
        message = "killing worker %d, which sent %s: did a task fork it without os.fork?"
        log.error(message, self.pid, fault, extra={"worker": self.pid})
        self._channel.abort()
        self._kill_group()

    def _spawn(self, channel: socket.socket, lifeline: socket.socket, output: int) -> subprocess.Popen[bytes]:
        config = self._config
        arguments = (
            channel.fileno(),
            lifeline.fileno(),
            config.slow_nice,
            sorted(config.worker_cpus),
            config.slow_max_memory_bytes,
            config.slow_sandbox,
            config.log_level,
        )
        name, _, value = self._marker.partition("=")
        return subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP, repr(arguments), repr(sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[channel.fileno(), lifeline.fileno()],
            start_new_session=True,
            env={**os.environ, name: value},
        )

    def _watch_exit(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system, an old kernel, or not allowed
            self._poll_exit()
        else:
            asyncio.get_running_loop().add_reader(pidfd, self._on_pidfd, pidfd)

    def _poll_exit(self) -> None:
        if self._process.poll() is None:
            asyncio.get_running_loop().call_later(EXIT_POLL_SECONDS, self._poll_exit)
        else:
            self._on_exit()

    def _on_pidfd(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._on_exit()

    def _on_exit(self) -> None:
        self._kill_group()  # before another process can get the pid
        self._kill_marked()
        status = self._process.wait()
        self._channel.abort()
        self._lifeline.close()
        self._output.close()
        self.exited.set_result(_describe(status) + self._fault)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _kill_marked(self) -> None:
        """Kill descendants that left the group: they have all inherited the marker in the environment."""
        marker = self._marker.encode()
        with contextlib.suppress(FileNotFoundError):  # no /proc
            for entry in os.listdir("/proc"):
                if not entry.isdecimal() or int(entry) == self.pid:
                    continue
                with contextlib.suppress(OSError):
                    with open(f"/proc/{entry}/environ", "rb") as file:
                        marked = marker in file.read().split(b"\0")
                    if marked:
                        os.kill(int(entry), signal.SIGKILL)


def _describe(status: int) -> str:
    """How a process ended, from subprocess's form of its wait status."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"
