"""warm: functions that are called once in each process before jobs run in it. Standard library only."""

import functools
import importlib
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("slowpool")

functions: list[Callable[[], object]] = []
"""The functions that @slowpool.warm has marked, in their order."""


def warm(function: Callable[[], T]) -> Callable[[], T]:
    """Mark a function without arguments that loads what tasks need, such as a model.

    It is called once before workers are forked, and what it returns is kept: tasks that call it get that at
    once, and all workers share its memory. Where workers are started afresh, each calls it before its first
    job. In any other process it is called when something calls it, also only once.
    """
    import inspect  # takes time, which a worker without such functions saves

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"slowpool.warm: {function.__qualname__} is async; write a plain function")
    kept = functools.cache(function)
    functions.append(kept)
    return kept


def modules() -> list[str]:
    """The modules that have such functions."""
    return sorted({function.__module__ for function in functions})


def warm_up(names: list[str]) -> None:
    """Import these modules and call the functions that they mark.

    Raises what a function raises. A module that cannot be imported is logged: its tasks will say the same.
    """
    del sys.argv[1:]  # slowpool's own
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):
            log.exception("cannot import %s before the first job", name)
    for function in functions:
        function()
