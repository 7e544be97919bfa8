"""slowpool: a Tornado application in two pools of processes, so that a slow request holds up no other.

Importing it takes no time: a task may do so in its worker.
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from slowpool.workers.progress import Listener, progress
from slowpool.workers.warm import warm

__all__ = ["draining", "progress", "run", "stream", "warm"]

P = ParamSpec("P")
T = TypeVar("T")


@overload
async def run(task: Callable[..., T], /, *args: Any, on_progress: Listener, **kwargs: Any) -> T: ...


@overload
async def run(task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


async def run(  # type: ignore[misc]  # the arguments of P cannot have a keyword beside them
    task: Callable[..., T], /, *args: Any, on_progress: Listener | None = None, **kwargs: Any
) -> T:
    """Run a task in a worker process of the slow pool, and return what it returns.

    The task is a plain function of an importable module; it may block. ``run`` can be called in any handler,
    at any depth of its calls, and several times. On a fast instance the request is handed over to the slow
    pool first: the handler is cancelled, and runs again from its start there.

    ``on_progress`` is called with the arguments of ``slowpool.progress``, some times a second while they
    change; it may be a coroutine function.

    The deadline counts from the request's arrival; when it passes, or when the client goes away, the worker
    is killed. Raises what the task raises, with the worker's traceback as its cause, and of slowpool.errors
    PoolFull, DeadlinePassed, ClientGone, NotPicklable, ResultTooLarge, WrongTask, WorkerDied, CutOff,
    Draining and CannotHandOver.

    Without an instance, in a unit test for example, the task runs in a thread.
    """
    from slowpool.web import jobs

    return await jobs.run(task, args, kwargs, on_progress)


def stream(task: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
    """Run a generator function in a worker process of the slow pool, and yield its items as they come.

    A reader that is slow makes the task wait at its next ``yield``. When the iterator is closed, or the
    client goes away, the worker is killed. An exception of the task is raised after the items before it.
    Otherwise as ``run``, whose errors it raises too.
    """
    from slowpool.web import jobs

    return jobs.stream(task, args, kwargs)


def __getattr__(name: str) -> Any:
    if name == "draining":
        from slowpool import instance

        return instance.draining
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
