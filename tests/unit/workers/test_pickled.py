"""Large results: refused above a size, unpickled beside the event loop, and not kept."""

import asyncio
import gc
import pickle
import weakref

import pytest

from slowpool.errors import ResultTooLarge
from slowpool.linux.memory import resident_bytes
from slowpool.workers.pickled import AT_ONCE_BYTES, STEP_BYTES, unpickle
from tests.apps import results, zoo
from tests.support.pool import Pool, with_pool
from tests.support.pool_host import PoolHost


@pytest.mark.parametrize("value", [b"", b"x" * AT_ONCE_BYTES, b"x" * (5 * AT_ONCE_BYTES), [*range(10**6)]])
@pytest.mark.parametrize("piece", [1000, STEP_BYTES, STEP_BYTES + 1, 10**9])
def test_an_object_in_pieces_is_itself_and_the_pieces_are_gone(value: object, piece: int) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    assert asyncio.run(unpickle(pieces)) == value
    assert pieces == []


def test_a_result_that_is_too_large_is_an_error_that_names_the_setting_and_the_worker_goes_on() -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        assert len(await pool.run(results.block, (1 << 20) - 100)) == (1 << 20) - 100
        text = "the result, of type builtins.bytes, is larger than SLOW_MAX_RESULT_BYTES: raise that, return"
        with pytest.raises(ResultTooLarge, match=text):
            await pool.run(results.block, 1 << 20)
        assert await pool.run(zoo.own_pid) == pid

    with_pool(scenario, slow_max_result_bytes=1 << 20)


def test_the_event_loop_goes_on_while_a_large_result_of_many_objects_is_unpickled() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(results.many_objects, 2_000_000)
        await job.outcome  # all of it has come
        assert sum(map(len, job.outcome.result().body)) > 40_000_000
        ticks, unpickling = 0, asyncio.create_task(job.result())
        while not unpickling.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert len(unpickling.result()) == 2_000_000
        assert ticks > 10

    with_pool(scenario)


def test_other_jobs_are_answered_while_a_large_result_is_unpickled() -> None:
    async def scenario(pool: Pool) -> None:
        large = pool.submit(results.many_objects, 2_000_000)
        await large.outcome
        unpickling = asyncio.create_task(large.result())
        answered = 0
        while not unpickling.done():
            assert await pool.run(zoo.add, answered, 1) == answered + 1
            answered += 1
        assert answered > 1

    with_pool(scenario)


def test_a_result_is_not_kept_after_it_was_delivered() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(results.traced, 50_000_000)
        found = weakref.ref(await job.result())
        assert found() is None, "somebody refers to it"
        assert job.outcome.result().body == []
        assert job.request == b""

    gc.disable()
    try:
        with_pool(scenario)
    finally:
        gc.enable()


async def receives_large_results(pool: Pool) -> None:
    await pool.run(results.block, 60_000_000)
    before = resident_bytes()
    jobs = []
    for _ in range(5):
        jobs.append(pool.submit(results.block, 60_000_000))
        assert len(await jobs[-1].result()) == 60_000_000
    grown = resident_bytes() - before
    assert grown < 60_000_000, grown


def test_a_process_that_has_received_large_results_is_as_small_as_before() -> None:
    with PoolHost(receives_large_results):
        pass
