"""slowpool: a Tornado application in two pools of processes, so that a slow request holds up no other.

Importing it takes no time: a task may do so in its worker.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["draining", "run"]

P = ParamSpec("P")
T = TypeVar("T")


async def run(task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a task in a worker process of the slow pool, and return what it returns.

    The task is a plain function of an importable module; it may block. ``run`` can be called in any handler,
    at any depth of its calls, and several times. On a fast instance the request is handed over to the slow
    pool first: the handler is cancelled, and runs again from its start there.

    The deadline counts from the request's arrival; when it passes, or when the client goes away, the worker
    is killed. Raises what the task raises, with the worker's traceback as its cause, and of slowpool.errors
    PoolFull, DeadlinePassed, ClientGone, NotPicklable, WorkerDied, CutOff, Draining and CannotHandOver.

    Without an instance, in a unit test for example, the task runs in a thread.
    """
    from slowpool.web import jobs

    return await jobs.run(task, *args, **kwargs)


def __getattr__(name: str) -> Any:
    if name == "draining":
        from slowpool import instance

        return instance.draining
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
