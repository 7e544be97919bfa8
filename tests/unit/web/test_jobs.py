"""slowpool.run and stream where there is no instance, as in an application's own unit tests."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

import slowpool
from slowpool.errors import WrongTask
from slowpool.workers import warm
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


class Steps:
    """A task of two steps, the second of which waits until the first has been told; and who is told."""

    def __init__(self) -> None:
        self.has_been_told = threading.Event()
        self.told: list[object] = []

    def task(self) -> str:
        slowpool.progress(1, 4, "one")
        assert self.has_been_told.wait(30)
        for _ in range(1000):  # as often as it likes
            slowpool.progress(4, 4, "all")
        return "done"

    def note(self, *progress: object) -> None:
        self.told.append(progress)
        self.has_been_told.set()

    async def note_later(self, *progress: object) -> None:
        await asyncio.sleep(0)
        self.note(*progress)

    def note_and_raise(self, *progress: object) -> None:
        self.note(*progress)
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["note", "note_later"])
def test_progress_is_told_while_the_task_runs_and_the_last_before_its_result(name: str) -> None:
    steps = Steps()

    async def scenario() -> None:
        assert await slowpool.run(steps.task, on_progress=getattr(steps, name)) == "done"
        assert steps.told == [(1, 4, "one"), (4, 4, "all")]

    asyncio.run(scenario())


def test_a_function_that_raises_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps()
    assert asyncio.run(slowpool.run(steps.task, on_progress=steps.note_and_raise)) == "done"
    assert steps.told == [(1, 4, "one")]
    assert "on_progress failed" in caplog.text


def test_progress_that_nobody_asked_for_does_nothing() -> None:
    slowpool.progress(1, 2, "outside of a task")
    assert asyncio.run(slowpool.run(silent)) == "done"


def silent() -> str:
    slowpool.progress(1)
    return "done"


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("task", "what"),
    [(coroutine, "is a coroutine function"), (generator, "is a generator function")],
)
def test_what_cannot_be_a_task_is_refused_here_too(task: object, what: str) -> None:
    with pytest.raises(WrongTask, match=what):
        asyncio.run(slowpool.run(task))  # type: ignore[call-overload]  # on purpose


class Rows:
    """A generator function, which notes whether it was closed."""

    def __init__(self) -> None:
        self.thread = 0
        self.is_closed = False
        self.go_on = threading.Event()
        self.is_waiting = threading.Event()

    def task(self, count: int) -> Iterator[int]:
        self.thread = threading.get_ident()
        try:
            yield from range(count)
            raise ValueError("no more")
        finally:
            self.is_closed = True

    def waits(self) -> Iterator[int]:
        try:
            self.is_waiting.set()
            assert self.go_on.wait(30)
            yield 1
        finally:
            self.is_closed = True


def test_items_come_from_a_thread_and_what_the_task_raises_after_them() -> None:
    rows, items = Rows(), []

    async def scenario() -> None:
        async for item in slowpool.stream(rows.task, 10):
            items.append(item)

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(scenario())
    assert items == list(range(10))
    assert rows.thread != threading.get_ident()


def test_a_stream_that_is_closed_closes_its_generator() -> None:
    rows = Rows()

    async def scenario() -> None:
        async with contextlib.aclosing(slowpool.stream(rows.task, 10)) as items:
            assert await anext(items) == 0
        assert rows.is_closed

    asyncio.run(scenario())


def test_a_stream_that_is_cancelled_while_its_task_works_closes_the_generator_after_that() -> None:
    rows = Rows()

    async def scenario() -> None:
        reading = asyncio.create_task(anext(slowpool.stream(rows.waits)))
        await asyncio.to_thread(rows.is_waiting.wait)
        reading.cancel()
        asyncio.get_running_loop().call_later(0.01, rows.go_on.set)
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert rows.is_closed

    asyncio.run(scenario())


def test_a_warm_function_is_called_once_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "functions", [])  # no template of another test calls it
    calls = []

    @slowpool.warm
    def model() -> object:
        calls.append(1)
        return object()

    assert model() is model()
    assert calls == [1]


def test_nothing_drains() -> None:
    assert not slowpool.draining.is_set()
