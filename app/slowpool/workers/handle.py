"""One worker process, seen from the instance."""

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
from typing import Any

from slowpool.config import Config
from slowpool.workers.child import NOT_PICKLABLE, RAISED, READY, REPLY, REQUEST, RESULT

log = logging.getLogger("slowpool.worker")

START_TIMEOUT_SECONDS = 30.0
OUTPUT_BYTES_PER_JOB = 64 * 1024
"""How much of what a job prints is logged; a task that prints without end must not fill the log."""

KINDS = (RESULT, RAISED, NOT_PICKLABLE)

EXIT_POLL_SECONDS = 0.01
"""How often a worker's end is looked for where the system has no pidfd_open(2)."""

BOOTSTRAP = (
    "import sys; from ast import literal_eval; sys.path[:] = literal_eval(sys.argv[2]); "
    "from slowpool.workers.child import main; main(*literal_eval(sys.argv[1]))"
)


class Worker:
    """A child process in a session of its own, with a channel for jobs and a pipe for its output.

    ``reply`` is a future of ``(kind, body)`` for the job that was sent last; ``exited`` one of the
    text of how the process ended, such as "was killed by SIGKILL".
    """

    def __init__(self, config: Config) -> None:
        self.pid = 0
        self.killed = False
        self.jobs = 0
        self.job_number = 0
        self.resident_bytes = 0
        self.reply: asyncio.Future[tuple[bytes, bytes]]
        self.exited: asyncio.Future[str]
        self._config = config
        self._fault = ""
        self._marker = f"SLOWPOOL_WORKER={uuid.uuid4().hex}"

    async def start(self) -> None:
        """Start the process and wait until it takes jobs. Raises OSError when it does not."""
        loop = asyncio.get_running_loop()
        self.exited = loop.create_future()
        self.reply = loop.create_future()
        channel, channel_there = socket.socketpair()
        max_bytes = self._config.slow_max_memory_bytes or _memory_bytes()
        with channel_there:
            self._channel, _ = await loop.create_connection(lambda: _Channel(self, max_bytes), sock=channel)
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
        self._output = _Output(output, self.pid)
        self._watch_exit()
        either: list[asyncio.Future[Any]] = [self.reply, self.exited]
        await asyncio.wait(
            either,
            timeout=START_TIMEOUT_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not self.reply.done():
            await self.kill()
            raise OSError(f"worker {self.pid} did not become ready: it {self.exited.result()}")

    def has_died(self) -> bool:
        """Whether the process has ended or been killed, also if the event loop has not noticed yet."""
        if self.killed or self.exited.done() or not hasattr(os, "waitid"):
            return self.killed or self.exited.done()
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def send(self, request: bytes, request_id: str) -> None:
        """Start a job: ``request`` is the pickle of ``(task, args)``."""
        self.jobs += 1
        self.job_number = secrets.randbits(64)  # which nobody guesses who has only had an earlier job
        self.reply = asyncio.get_running_loop().create_future()
        self._output.begin(request_id)
        self._channel.writelines([REQUEST.pack(self.job_number, len(request)), request])

    def end_job(self) -> None:
        """Log what is left of the output of the job that has just replied."""
        self._output.end()

    def reject(self, fault: str) -> None:
        """Kill the process, which has sent ``fault``: from here on nobody knows which job a reply is to."""
        self.killed = True
        self._fault = f", since it had sent {fault}"
        log.error(
            "kills worker %d, since it has sent %s: has a task forked it, and not by os.fork?",
            self.pid,
            fault,
            extra={"worker": self.pid},
        )
        self._channel.abort()
        self._kill_group()

    async def kill(self) -> None:
        """Kill the process and all that it started; returns when the process is gone."""
        if not self.exited.done():
            self.killed = True
            self._kill_group()
        await asyncio.shield(self.exited)

    async def stop(self, timeout_seconds: float) -> None:
        """Ask the idle process, if it was started, to end; kill it when it does not in time."""
        if not self.pid:
            return
        self._channel.close()
        try:
            await asyncio.wait([self.exited], timeout=timeout_seconds)
        finally:  # cancelled too
            await self.kill()

    def _spawn(self, channel: socket.socket, lifeline: socket.socket, output: int) -> subprocess.Popen[bytes]:
        config = self._config
        arguments = (
            channel.fileno(),
            lifeline.fileno(),
            config.slow_nice,
            sorted(config.worker_cpus),
            config.slow_max_memory_bytes,
            config.slow_sandbox,
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
        loop = asyncio.get_running_loop()

        def poll() -> None:
            if self._process.poll() is None:
                loop.call_later(EXIT_POLL_SECONDS, poll)
            else:
                self._on_exit()

        def on_exit() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._on_exit()

        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system, an old kernel, or not allowed
            poll()
        else:
            loop.add_reader(pidfd, on_exit)

    def _on_exit(self) -> None:
        self._kill_group()  # before the pid is free for others
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
        """Kill descendants that left the group: all of them have inherited the environment's marker."""
        marker = self._marker.encode()
        with contextlib.suppress(FileNotFoundError):  # no /proc here
            for entry in os.listdir("/proc"):
                if not entry.isdecimal() or int(entry) == self.pid:
                    continue
                with contextlib.suppress(OSError):
                    with open(f"/proc/{entry}/environ", "rb") as file:
                        marked = marker in file.read().split(b"\0")
                    if marked:
                        os.kill(int(entry), signal.SIGKILL)


class _Channel(asyncio.Protocol):
    """Puts the frames that come from the worker together.

    What is not the one reply to the job that runs ends the worker: a task may have left a process behind
    that writes to the channel too, and none of that is for the client of the next job.
    """

    def __init__(self, worker: Worker, max_bytes: int) -> None:
        self._worker = worker
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        worker, buffer = self._worker, self._buffer
        if worker.reply.done():
            worker.reject(f"{len(data)} bytes while it had no job")
            return
        buffer += data
        if len(buffer) < REPLY.size:
            return
        kind, number, resident_bytes, size = REPLY.unpack_from(buffer)
        if number != worker.job_number or kind not in (KINDS if worker.jobs else (READY,)):
            worker.reject("what is no reply to its job")
        elif size > self._max_bytes:
            worker.reject(f"a reply of {size} bytes, more than its memory holds")
        elif len(buffer) > REPLY.size + size:
            worker.reject(f"{len(buffer) - REPLY.size - size} bytes after its reply")
        elif len(buffer) == REPLY.size + size:
            body = bytes(memoryview(buffer)[REPLY.size :])
            self._buffer = bytearray()
            worker.resident_bytes = resident_bytes
            worker.reply.set_result((kind, body))


class _Output:
    """Logs what a worker prints, line by line, with its pid and the request's id."""

    def __init__(self, fd: int, pid: int) -> None:
        self._fd: int | None = fd
        self._pid = pid
        self._line = b""
        self.begin("")
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def begin(self, request_id: str) -> None:
        self._request_id = request_id
        self._left = OUTPUT_BYTES_PER_JOB
        self._dropped = 0

    def end(self) -> None:
        if self._fd is not None:
            self._read()  # a pipe holds less than one read takes
        if self._line:
            self._log(b"")
        if self._dropped:
            self._put(logging.WARNING, f"{self._dropped} more bytes of output are not logged")
        self.begin("")

    def close(self) -> None:
        self.end()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _read(self) -> None:
        assert self._fd is not None
        try:
            data = os.read(self._fd, 256 * 1024)
        except BlockingIOError:
            return
        if not data:  # every writer is gone
            self._loop.remove_reader(self._fd)
        kept = data[: self._left]
        self._left -= len(kept)
        self._dropped += len(data) - len(kept)
        if kept:
            self._log(kept)

    def _log(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or not self._left:  # the end of what is logged
            lines.append(self._line)
            self._line = b""
        for line in lines:
            if line:
                self._put(logging.INFO, line.decode(errors="backslashreplace"))

    def _put(self, level: int, text: str) -> None:
        extra = {"request_id": self._request_id, "worker": self._pid}
        log.log(level, "worker %d: %s", self._pid, text, extra=extra)


def _memory_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _describe(status: int) -> str:
    """How a process ended, from its wait status in subprocess's form."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"
