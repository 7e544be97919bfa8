"""@slowpool.warm in a process that is none of the pool's."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from slowpool.workers import warm


@pytest.fixture(autouse=True)
def nothing_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "functions", [])


def test_a_warm_function_is_called_once_whoever_calls_it_and_keeps_what_it_returned() -> None:
    calls = []

    @warm.warm
    def model() -> object:
        calls.append("loaded")
        return object()

    assert calls == []
    warm.warm_up([])
    assert model() is model()
    assert calls == ["loaded"]
    assert warm.modules() == [__name__]


async def coroutine() -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [coroutine, generator])
def test_an_async_function_cannot_be_warm_and_the_error_says_what_to_do(function: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__} is async; write a plain function"):
        warm.warm(function)
    assert warm.functions == []


def test_warm_functions_are_called_in_their_order_and_a_failure_is_not_kept() -> None:
    calls: list[str] = []

    @warm.warm
    def first() -> None:
        calls.append("first")

    @warm.warm
    def second() -> None:
        calls.append("second")
        if calls.count("second") == 1:
            raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        warm.warm_up([])
    warm.warm_up([])
    assert calls == ["first", "second", "second"]
