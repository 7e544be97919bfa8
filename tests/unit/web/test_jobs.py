"""slowpool.run where there is no instance, as in an application's own unit tests."""

import asyncio
import threading

import pytest

import slowpool
from tests.apps import zoo


def place(*numbers: int, **names: str) -> tuple[int, tuple[int, ...], dict[str, str]]:
    """The thread that it runs in, and its arguments."""
    return threading.get_ident(), numbers, names


def test_a_task_runs_in_a_thread_with_its_arguments() -> None:
    thread, numbers, names = asyncio.run(slowpool.run(place, 1, 2, a="x"))
    assert thread != threading.get_ident()
    assert (numbers, names) == ((1, 2), {"a": "x"})


def test_what_a_task_raises_is_raised() -> None:
    with pytest.raises(ValueError, match=r"^mine$"):
        asyncio.run(slowpool.run(zoo.raises, "mine"))


def test_nothing_drains() -> None:
    assert not slowpool.draining.is_set()
