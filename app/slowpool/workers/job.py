"""One run of one task: its request, its deadline, its items and its outcome."""

import asyncio
import inspect
import pickle
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Generic, TypeVar

from slowpool.errors import DeadlinePassed, NotPicklable, ResultTooLarge, WorkerTraceback, WrongTask
from slowpool.linux.processes import cpu_seconds
from slowpool.workers.pickled import unpickle
from slowpool.workers.progress import Progress
from slowpool.workers.wire import RAISED, RESULT, TOO_LARGE, Reply

MAX_BUFFERED_BYTES = 256 * 1024
"""Up to this size items wait in the instance for their reader; then the task waits."""

ITEM_BYTES = 200
"""What an item takes besides its body."""

T = TypeVar("T")


class Job(Generic[T]):
    """One run of one task. ``wait_seconds`` and ``run_seconds`` are true at any time.

    ``request`` is what ``pickle_request`` returns; ``timeout`` in seconds, waiting included. A ``streamed``
    job has items of type T, any other one result.
    """

    def __init__(
        self,
        request: bytes,
        timeout: float,
        request_id: str = "",
        route: str = "",
        task: str = "",
        *,
        streamed: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.number = secrets.randbits(64)
        self.request_id = request_id
        self.route = route
        self.task = task
        self.accepted = False  # of a request whose client does not wait
        self.streamed = streamed
        self.submitted_at = time.monotonic()
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.deadline = self.submitted_at + timeout
        self.worker_pid = 0
        self._cpu_seconds_before = 0.0
        self.outcome: asyncio.Future[Reply] = loop.create_future()
        self.request = request
        self._items: deque[Reply] = deque()
        self._buffered_bytes = 0
        self._changed = asyncio.Event()  # an item has come, or the outcome
        self._progress: Progress | None = None
        self._read_progress: Callable[[], Progress | None] | None = None
        self._resume: Callable[[], None] = lambda: None
        # Called with the job and the traceback of its task: the job keeps no reference to itself.
        self.on_raised: Callable[[Job[Any], str], None] = lambda job, text: None
        self.outcome.add_done_callback(lambda _: self._changed.set())

    @property
    def id(self) -> str:
        """Names the job to people."""
        return f"{self.number:016x}"

    @property
    def wait_seconds(self) -> float:
        """From its arrival to its start."""
        return self._until(self.started_at) - self.submitted_at

    @property
    def run_seconds(self) -> float:
        """From its start until it ended, or until now."""
        return self._until(self.ended_at) - self.started_at if self.worker_pid and self.started_at else 0.0

    @property
    def cpu_seconds(self) -> float | None:
        """The CPU time of its worker since it began, while it runs; None where that is not known."""
        now = cpu_seconds(self.worker_pid)
        return None if now is None else max(0.0, now - self._cpu_seconds_before)

    @property
    def progress(self) -> Progress | None:
        """How far the task said that it is."""
        return self._read_progress() if self._read_progress else self._progress

    def begin(self, pid: int, progress: Callable[[], Progress | None], resume: Callable[[], None]) -> None:
        """Note the worker that runs the job, how to read its progress, and how to let its items come."""
        self.worker_pid = pid
        self.ended_at = None
        self._cpu_seconds_before = cpu_seconds(pid) or 0.0
        self._read_progress = progress
        self._resume = resume

    def stop(self) -> None:
        """Note that the job does not run any more. A second call does nothing."""
        if self.ended_at is not None:
            return
        self.ended_at = time.monotonic()
        self._progress, self._read_progress = self.progress, None
        self._resume = lambda: None

    def add_item(self, item: Reply) -> bool:
        """Take an item of a streamed job; returns whether more may come before some have been read."""
        if not self.outcome.done():
            self._items.append(item)
            self._buffered_bytes += item.size + ITEM_BYTES
            self._changed.set()
        return self._buffered_bytes < MAX_BUFFERED_BYTES

    async def result(self) -> T:
        """Wait for the end of the job; give it up when cancelled.

        Raises what the task raises, with a WorkerTraceback as its cause, and DeadlinePassed, NotPicklable,
        ResultTooLarge, WorkerDied, CutOff and Draining.
        """
        try:
            reply = await self.outcome
        finally:
            self.cancel()  # does nothing when the job has ended
        # A worker that was taken over may send a pickle that runs anything: the instance is in a sandbox too.
        answer = await unpickle(reply.body)
        if reply.kind == RESULT:
            return answer  # type: ignore[no-any-return]  # the task's own type
        if reply.kind == TOO_LARGE:
            error = ResultTooLarge(answer)
            self.on_raised(self, error.log_text)
            raise error
        content, text = answer
        self.on_raised(self, text)
        if reply.kind == RAISED:
            raise pickle.loads(content) from WorkerTraceback(text)  # nosec B301  # likewise
        raise NotPicklable(content) from WorkerTraceback(text)

    async def items(self) -> AsyncGenerator[T, None]:
        """Yield the items of a streamed job as they come; a reader that is slow makes the task wait.

        Raises what ``result`` does, after the items that came before. The job is given up when it is closed.
        """
        try:
            while True:
                self._changed.clear()
                while self._items:
                    item = self._items.popleft()
                    self._buffered_bytes -= item.size + ITEM_BYTES
                    if self._buffered_bytes < MAX_BUFFERED_BYTES / 2:
                        self._resume()
                    yield await unpickle(item.body)
                if self.outcome.done():
                    await self.result()
                    return
                await self._changed.wait()
        finally:
            self.cancel()
            self._items.clear()

    def cancel(self) -> None:
        """Give the job up: it leaves the queue, or its worker is killed."""
        self.outcome.cancel()

    def end(self, reply: Reply) -> None:
        """End the job with the worker's reply, unless it has ended."""
        self.request = b""
        if not self.outcome.done():
            self.outcome.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Fail the job, unless it has ended."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def fail_unstarted(self) -> None:
        """Fail the job because its deadline has passed before it could start."""
        self.started_at = time.monotonic()
        self.fail(DeadlinePassed("the deadline passed before the job could start"))

    def _until(self, instant: float | None) -> float:
        return time.monotonic() if instant is None else instant


def name_of(task: Callable[..., object]) -> str:
    """The name of a task for people, such as ``shop.pdf.draw``."""
    inner: Any = getattr(task, "func", task)  # of a functools.partial
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', None) or type(inner).__module__}.{name}"


def pickle_request(
    task: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    streamed: bool = False,
) -> bytes:
    """Pickle a task and its arguments.

    Raises NotPicklable, which names what cannot be pickled, and WrongTask.
    """
    check_kind(task, streamed=streamed)
    name = getattr(task, "__qualname__", "")
    if "<" in name or getattr(task, "__module__", "") == "__main__":
        raise NotPicklable(
            f"the task {name} is a lambda, a closure or defined in __main__: define it with def at the "
            "top level of a module that can be imported, and pass what it needs as arguments"
        )
    try:
        return pickle.dumps((task, args, dict(kwargs)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        for value in (task, *args, *kwargs.values()):
            try:
                pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            except Exception as why:
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                raise NotPicklable(
                    f"an argument of {name}, of type {kind}, cannot be pickled: {why}"
                ) from error
        raise NotPicklable(f"the arguments of {name} cannot be pickled: {error}") from error


def check_kind(task: Callable[..., object], *, streamed: bool) -> None:
    """Raise WrongTask for a function that cannot be a task."""
    if inspect.iscoroutinefunction(task) or inspect.isasyncgenfunction(task):
        kind = "asynchronous generator" if inspect.isasyncgenfunction(task) else "coroutine"
        raise WrongTask(
            f"{name_of(task)} is a {kind} function, and a task is a plain function: await it where you are, "
            "or call asyncio.run() in a plain function and pass that"
        )
    if not streamed and inspect.isgeneratorfunction(task):
        raise WrongTask(
            f"{name_of(task)} is a generator function: iterate over slowpool.stream({task.__name__}, …), or "
            "return a list"
        )
