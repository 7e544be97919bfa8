"""One run of one task: its request, its deadline and its outcome."""

import asyncio
import pickle
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from slowpool.errors import DeadlinePassed, NotPicklable, WorkerTraceback
from slowpool.workers.wire import RAISED, RESULT, Reply

T = TypeVar("T")


class Job(Generic[T]):
    """One run of one task. ``wait_seconds`` and ``run_seconds`` are known when it has ended.

    ``request`` is what ``pickle_request`` returns; ``timeout`` in seconds, waiting included.
    """

    def __init__(self, request: bytes, timeout: float, request_id: str, route: str) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.request_id = request_id
        self.route = route
        self.submitted_at = self.started_at = loop.time()
        self.deadline = self.submitted_at + timeout
        self.run_seconds = 0.0
        self.worker_pid = 0
        self.outcome: asyncio.Future[Reply] = loop.create_future()

    @property
    def wait_seconds(self) -> float:
        """From its arrival to its start."""
        return self.started_at - self.submitted_at

    async def result(self) -> T:
        """Wait for the end of the job; give it up when cancelled.

        Raises what the task raises, with a WorkerTraceback as its cause, and DeadlinePassed, NotPicklable,
        WorkerDied and Draining.
        """
        try:
            kind, body, _ = await self.outcome
        finally:
            self.cancel()  # does nothing when the job has ended
        # A worker that was taken over may send a pickle that runs anything: the instance is in a sandbox too.
        answer = pickle.loads(body)  # nosec B301
        if kind == RESULT:
            return answer  # type: ignore[no-any-return]  # the task's own type
        if kind == RAISED:
            pickled, text = answer
            raise pickle.loads(pickled) from WorkerTraceback(text)  # nosec B301  # likewise
        reason, text = answer
        raise NotPicklable(reason) from WorkerTraceback(text)

    def cancel(self) -> None:
        """Give the job up: it leaves the queue, or its worker is killed."""
        self.outcome.cancel()

    def end(self, reply: Reply) -> None:
        """End the job with the worker's reply, unless it has ended."""
        if not self.outcome.done():
            self.outcome.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Fail the job, unless it has ended."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def fail_unstarted(self) -> None:
        """Fail the job because its deadline has passed before it could start."""
        self.started_at = asyncio.get_running_loop().time()
        self.fail(DeadlinePassed("the deadline passed before the job could start"))


def pickle_request(
    task: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> bytes:
    """Pickle a task and its arguments. Raises NotPicklable, which names what cannot be pickled."""
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
