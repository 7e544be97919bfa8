"""A worker as the instance sees it. The worker itself, the process, runs what child.py says."""

import asyncio
import contextlib
import functools
import logging
import os
import socket
from typing import Any

from slowpool.config import Config
from slowpool.linux.scheduling import set_group_nice
from slowpool.workers import progress, stack
from slowpool.workers.job import Job
from slowpool.workers.output import OutputLog
from slowpool.workers.process import Process
from slowpool.workers.spawner import Spawner
from slowpool.workers.wire import ITEM, READY, REPLIES, REQUEST, Reply, ReplyReader

log = logging.getLogger("slowpool.worker")

START_TIMEOUT_SECONDS = 30.0
"""How long a forked worker may take to take jobs. A fresh one loads what it needs first."""

STACK_TIMEOUT_SECONDS = 0.05
"""How long a worker may take to write its stack."""

GROUP_NICE_SECONDS = 0.1
"""When the niceness of a worker's group is set again, where Linux refused it for now."""

EXIT_SECONDS = 0.5
"""How long a worker that has closed its channel may take to exit."""

KILL_TIMEOUT_SECONDS = 5.0
"""How long a template may take to say that a worker that was killed has ended."""


class WorkerHandle(asyncio.Protocol):
    """Starts, feeds and kills one worker. To be made in an event loop.

    ``reply`` is a future of the reply to the job that was sent last, ``exited`` one of how the process ended,
    such as "was killed by SIGKILL". Once it has ended, ``has_begun_job`` tells whether it had begun that job.

    The instance has the other ends of four things of the worker: a channel for jobs, of which this is also
    the asyncio protocol; a pipe for its output; a lifeline, a socket whose end means the instance's end; and
    a file in memory, in which the worker writes how far it is.
    """

    def __init__(self, config: Config, spawner: Spawner) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.killed = False
        self.jobs = 0
        self.added_bytes = 0
        self.has_children = False
        self.has_begun_job = False
        self.reply: asyncio.Future[Reply] = loop.create_future()
        self.exited: asyncio.Future[str] = loop.create_future()
        self._config = config
        self._spawner = spawner
        self._process: Process | None = None
        self._reader = ReplyReader(0, {READY}, 0)
        self._job: Job[Any] | None = None
        self._fault = ""
        self._stack_lock = asyncio.Lock()

    async def start(self) -> None:
        """Start the process and wait until it takes jobs. Raises OSError when it does not."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            channel, channel_there = socket.socketpair()
            theirs.enter_context(channel_there)
            self._channel, _ = await loop.create_connection(lambda: self, sock=channel)
            ours.callback(self._channel.abort)
            self._lifeline, lifeline_there = socket.socketpair()
            theirs.enter_context(lifeline_there)
            ours.enter_context(self._lifeline)
            output, output_there = os.pipe()
            theirs.callback(os.close, output_there)
            ours.callback(os.close, output)
            self._shared = progress.make_file()
            ours.callback(os.close, self._shared)
            ends = [channel_there.fileno(), lifeline_there.fileno(), self._shared, output_there]
            self._process = await self._spawner.spawn(ends)
            ours.pop_all()
        self.pid = self._process.pid
        self._output = OutputLog(output, self.pid)
        self._process.exited.add_done_callback(self._on_exit)
        ready: list[asyncio.Future[Any]] = [self.reply, self.exited]
        timeout = START_TIMEOUT_SECONDS if self._spawner.forks else None
        await asyncio.wait(ready, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not self.reply.done():
            await self.kill()
            raise OSError(f"worker {self.pid} did not become ready: it {self.exited.result()}")
        self._set_group_nice()

    def has_died(self) -> bool:
        """Whether the process ends, has ended or been killed, even if the event loop has not noticed yet."""
        return self.killed or not self._process or self._channel.is_closing() or self._process.has_ended()

    def send(self, job: Job[Any]) -> None:
        """Start a job."""
        self.jobs += 1
        self._job = job
        self.reply = asyncio.get_running_loop().create_future()
        limit = self._config.slow_max_result_bytes
        self._reader = ReplyReader(job.number, REPLIES, limit, streamed=job.streamed)
        self._output.begin(job.request_id)
        job.begin(self.pid, functools.partial(progress.read, self._shared, job.number), self._resume)
        self._channel.writelines([REQUEST.pack(job.number, job.streamed, len(job.request)), job.request])
        self._resume()

    def end_job(self) -> Reply:
        """Return the reply to the job, which is not kept, and log the rest of its output."""
        self._output.end()
        reply, self._job = self.reply.result(), None
        self.reply = asyncio.get_running_loop().create_future()
        return reply

    async def stack(self) -> tuple[list[str], bool]:
        """Where the running task is: frames such as ``shop/pdf.py:27 in draw``, the innermost first.

        The other value is whether they are all; a process that does not run writes none in time. The task
        goes on undisturbed.
        """
        frames: list[str] = []
        whole = False
        async with self._stack_lock:  # the file has room for one
            if not self._process or self.exited.done():
                return frames, whole
            stack.prepare(self._shared)
            self._process.send(stack.SIGNAL)
            loop = asyncio.get_running_loop()
            until = loop.time() + STACK_TIMEOUT_SECONDS
            while not self.exited.done():  # then the file is closed
                frames, whole = stack.read(self._shared)
                if whole or loop.time() > until:
                    break
                await asyncio.sleep(0.001)
        return frames, whole

    async def kill(self) -> None:
        """Kill the process and everything it started; returns when the process is gone."""
        if self._process and not self.exited.done():
            self.killed = True
            self._process.kill()
            await asyncio.wait([self.exited], timeout=KILL_TIMEOUT_SECONDS)
            if not self.exited.done():  # the template hangs
                self._spawner.replace_template()
            await asyncio.shield(self.exited)

    async def stop(self, timeout_seconds: float) -> None:
        """Ask the idle process to end, if it was started, and kill it if it does not in time."""
        if not self._process:
            return
        self._channel.close()
        try:
            await asyncio.wait([self.exited], timeout=timeout_seconds)
        finally:  # cancelled too
            await self.kill()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what comes from the worker, or from a process that a task left behind."""
        try:
            for reply in self._reader.feed(data):
                if reply.kind != ITEM:
                    self.added_bytes, self.has_children = reply.added_bytes, reply.has_children
                    self.reply.set_result(reply)
                elif self._job and not self._job.add_item(reply):
                    self._channel.pause_reading()
        except ValueError as fault:
            self._reject(str(fault))

    def eof_received(self) -> None:
        """Called by asyncio when the worker has closed its end, as it does when its interpreter exits."""
        asyncio.get_running_loop().call_later(EXIT_SECONDS, self._end_unless_exited)

    def _end_unless_exited(self) -> None:
        if not self.exited.done() and not self.killed:  # a thread may keep it alive
            self._fault = " after it closed its channel"
            self._end_process()

    def _set_group_nice(self) -> None:
        """Have the worker's session give way; while a job runs, the worker itself could not try again."""
        if not self.exited.done() and not set_group_nice(self._config.slow_nice, self.pid):
            asyncio.get_running_loop().call_later(GROUP_NICE_SECONDS, self._set_group_nice)

    def _resume(self) -> None:
        self._channel.resume_reading()

    def _reject(self, fault: str) -> None:
        """Kill the process: after such bytes nobody knows which job a reply belongs to."""
        self._fault = f" after it sent {fault}"
        message = "killing worker %d, which sent %s: did a task fork it without os.fork?"
        log.error(message, self.pid, fault, extra={"worker": self.pid})
        self._channel.abort()
        self._end_process()

    def _end_process(self) -> None:
        self.killed = True
        if self._process:
            self._process.kill()

    def _on_exit(self, exited: asyncio.Future[str]) -> None:
        if self._job:
            self._job.stop()  # it reads the shared file once more
            self.has_begun_job = progress.has_begun(self._shared, self._job.number)
        self._channel.abort()
        self._lifeline.close()
        self._output.close()
        os.close(self._shared)
        self.exited.set_result(exited.result() + self._fault)
