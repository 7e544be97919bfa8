"""The items of a generator function: in order, as they are yielded, and no faster than they are read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slowpool.errors import (
    DeadlinePassed,
    NotPicklable,
    ResultTooLarge,
    WorkerDied,
    WorkerTraceback,
    WrongTask,
)
from slowpool.workers.job import MAX_BUFFERED_BYTES, Job
from tests.apps import forks, generators, zoo
from tests.support.pool import Pool, is_dead, until, with_pool
from tests.support.pool_host import PoolHost

BLOCK = 64 * 1024

IN_FLIGHT_BYTES = 2 * 1024 * 1024
"""More than the socket between the two holds, with what the instance reads at once."""


def submit(pool: Pool, task: Callable[..., Any], *args: object, timeout: float | None = None) -> Job[Any]:
    return pool.submit(task, *args, streamed=True, timeout=timeout)


async def collect(job: Job[Any], found: list[Any] | None = None) -> list[Any]:
    """Append the items to the list, which is returned."""
    found = [] if found is None else found
    async for item in job.items():
        found.append(item)
    return found


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_items_come_in_their_order_and_the_worker_goes_on(fork: bool) -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        assert await collect(submit(pool, generators.rows, 10_000)) == [*range(10_000)]
        assert await collect(submit(pool, generators.rows, 0)) == []
        assert await collect(submit(pool, generators.a_list)) == [1, 2, 3]
        assert await collect(submit(pool, generators.ends_with_a_value)) == [1]
        assert await pool.run(zoo.own_pid) == pid

    with_pool(scenario, slow_fork=fork)


def test_an_item_comes_as_soon_as_it_is_yielded(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        items = submit(pool, generators.rows_at_a_gate, str(tmp_path / "gate"), 5).items()
        for number in range(5):
            (tmp_path / f"gate.{number}").touch()
            assert await anext(items) == number
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    with_pool(scenario)


def test_a_task_waits_for_a_reader_that_is_slow(tmp_path: Path) -> None:
    count = 400

    async def scenario(pool: Pool) -> None:
        job = submit(pool, generators.blocks, count, BLOCK)
        items = job.items()
        for number in range(0, count, 50):
            last = await yielded_when_it_waits(job)
            assert last < count - 1 or number >= count - 100
            ahead_bytes = (last - number) * BLOCK
            assert ahead_bytes < MAX_BUFFERED_BYTES + IN_FLIGHT_BYTES
            for index in range(number, number + 50):
                assert int.from_bytes((await anext(items))[:8]) == index
        assert [item async for item in items] == []

    with_pool(scenario)


async def yielded_when_it_waits(job: Job[Any]) -> float:
    """How many items the task has yielded, once that does not change any more."""
    last, same = -1.0, 0
    while same < 20:
        now = job.progress.done if job.progress else 0.0
        last, same = now, same + 1 if now == last else 0
        await asyncio.sleep(0.005)
    return last


def test_a_gigabyte_passes_through_a_process_that_stays_small(pytestconfig: pytest.Config) -> None:
    megabytes = "200" if pytestconfig.getoption("--short") else "1024"
    with PoolHost(stream_much, megabytes):
        pass  # until it ends


async def stream_much(pool: Pool, megabytes: str) -> None:
    before, received = peak_mb(), 0
    async for item in submit(pool, generators.blocks, int(megabytes), 1 << 20).items():
        received += len(item)
    assert received == int(megabytes) << 20
    print(f"{before} MB became {peak_mb()} MB")
    assert before < peak_mb() < 120


def peak_mb() -> int:
    """The most resident memory that this process has had."""
    with open("/proc/self/status") as file:
        (kb,) = [line.split()[1] for line in file if line.startswith("VmHWM")]
    return int(kb) // 1024


@pytest.mark.parametrize("task", [generators.rows_for_ever, generators.rows_and_hang])
def test_closing_the_iterator_kills_the_worker_at_once_and_the_next_job_is_right(
    task: Callable[[], Iterator[int]],
) -> None:
    async def scenario(pool: Pool) -> None:
        for number in range(3):
            job = submit(pool, task)
            async with contextlib.aclosing(job.items()) as items:
                assert await anext(items) == 0
            await until(lambda job=job: is_dead(job.worker_pid))  # type: ignore[misc]
            assert not job.outcome.cancel(), "it has been cancelled already"
            assert await pool.run(zoo.add, number, 10) == number + 10

    with_pool(scenario)


def test_an_exception_after_the_tenth_item_arrives_after_the_tenth_item() -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        found: list[int] = []
        with pytest.raises(ValueError, match=r"^after the last$") as raised:
            await collect(submit(pool, generators.rows_and_then_an_exception, 10), found)
        assert found == [*range(10)]
        assert isinstance(raised.value.__cause__, WorkerTraceback)
        assert await pool.run(zoo.own_pid) == pid

    with_pool(scenario)


@pytest.mark.parametrize(
    ("task", "args", "items", "error", "text"),
    [
        (
            generators.one_that_cannot_be_pickled,
            (),
            [1],
            NotPicklable,
            "an item, of type _thread.lock, cannot be",
        ),
        (
            generators.one_that_is_too_large,
            (1 << 20,),
            [b"small"],
            ResultTooLarge,
            "an item, of type builtins.bytes, is larger than SLOW_MAX_RESULT_BYTES",
        ),
        (generators.no_iterable, (), [], TypeError, "slowpool.stream returned builtins.int: use yield"),
        (zoo.raises, (), [], ValueError, "on purpose"),
        (zoo.exits, (), [], WorkerDied, "died"),
        (generators.rows_and_hang, (), [0], DeadlinePassed, "deadline"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_goes_wrong_in_a_stream_is_raised_after_the_items_before_it(
    task: Callable[..., Any], args: tuple[Any, ...], items: list[Any], error: type[Exception], text: str
) -> None:
    async def scenario(pool: Pool) -> None:
        found: list[Any] = []
        timeout = 1.0 if error is DeadlinePassed else None
        with pytest.raises(error, match=text):
            await collect(submit(pool, task, *args, timeout=timeout), found)
        assert found == items
        assert await collect(submit(pool, generators.rows, 3)) == [0, 1, 2]

    with_pool(scenario, slow_max_result_bytes=1 << 20)


def test_a_generator_is_closed_when_an_item_of_it_cannot_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "closed"

    async def scenario(pool: Pool) -> None:
        with pytest.raises(ZeroDivisionError):
            await collect(submit(pool, generators.closes_with_a_note, str(path)))
        assert path.exists()

    with_pool(scenario)


@pytest.mark.parametrize("by", forks.FORKS)
def test_a_process_that_a_generator_forks_sends_no_items(by: str) -> None:
    async def scenario(pool: Pool) -> None:
        expected = ["before", "parent 0", "parent 1", "parent 2"]
        assert await collect(submit(pool, generators.rows_and_a_fork, by)) == expected
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


def test_streams_run_beside_each_other_and_beside_other_jobs() -> None:
    async def scenario(pool: Pool) -> None:
        streams = [collect(submit(pool, generators.rows, 1000 + number)) for number in range(6)]
        sums = [pool.run(zoo.add, number, 10) for number in range(6)]
        *found, one, two, three, four, five, six = await asyncio.gather(*streams, *sums)
        assert found == [[*range(1000 + number)] for number in range(6)]
        assert [one, two, three, four, five, six] == [*range(10, 16)]

    with_pool(scenario, slow_workers=2, slow_queue=100)


def test_a_reader_that_does_not_read_holds_up_no_other_job() -> None:
    async def scenario(pool: Pool) -> None:
        job = submit(pool, generators.rows_for_ever)
        items = job.items()
        assert await anext(items) == 0
        assert await collect(submit(pool, generators.rows, 1000)) == [*range(1000)]
        assert await pool.run(zoo.add, 1, 1) == 2
        await items.aclose()

    with_pool(scenario, slow_workers=2)


async def coroutine() -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("task", "streamed", "text"),
    [
        (coroutine, False, "coroutine is a coroutine function, .* or call asyncio.run"),
        (coroutine, True, "coroutine is a coroutine function, .* or call asyncio.run"),
        (generator, False, "generator is a asynchronous generator function, .* or call asyncio.run"),
        (generator, True, "generator is a asynchronous generator function, .* or call asyncio.run"),
        (generators.rows, False, r"rows is a generator function: iterate over slowpool.stream\(rows, …\)"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_with_a_text_that_says_what_to_do(
    task: Callable[..., Any], streamed: bool, text: str
) -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(WrongTask, match=text):
            pool.submit(task, streamed=streamed)
        assert isinstance(WrongTask(), TypeError)
        assert not [*pool.running_jobs, *pool.waiting_jobs]

    with_pool(scenario)
