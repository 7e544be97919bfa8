"""Faults that were found by attacking the slow pool: what goes wrong costs one job, and no slot."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import slowpool
from slowpool import config, instance
from slowpool.errors import DeadlinePassed, ResultTooLarge, WorkerDied
from slowpool.workers.job import MAX_BUFFERED_BYTES
from tests.apps import faulty, zoo
from tests.support.pool import HANG_SECONDS, Pool, is_dead, until, with_pool


def test_a_worker_that_dies_while_its_stack_is_read_costs_its_job_only() -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(WorkerDied):
            await pool.run(faulty.dies_of_the_signal_for_its_stack, timeout=0.5)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario)


def test_a_stack_that_a_task_has_forged_costs_its_job_only() -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(DeadlinePassed):
            await pool.run(faulty.writes_a_stack_with_an_absurd_line, timeout=0.5)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario)


def test_an_application_may_be_rude_when_it_is_imported() -> None:
    async def scenario(pool: Pool) -> None:
        spawner = pool._spawner
        template = spawner.template_pid
        assert spawner.forks
        worker = await pool.run(zoo.own_pid)
        (child,) = _children(template) - {worker}
        os.kill(worker, signal.SIGKILL)
        await until(lambda: _children(template) - {worker, child})  # the template has seen that
        os.kill(template, signal.SIGKILL)
        await until(lambda: spawner.template_pid != template)
        await until(lambda: is_dead(child))
        os.kill(await pool.run(zoo.own_pid), signal.SIGKILL)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario, app="tests.apps.rude:make_app")


def test_a_worker_starts_while_the_instance_has_no_file_descriptor_left_for_its_pidfd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(pool: Pool) -> None:
        first = await pool.run(zoo.own_pid)
        template = pool._spawner._template
        assert template
        receive = template._receive

        def receive_without_room() -> bytes:
            held: list[int] = []
            try:
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.open(os.devnull, os.O_RDONLY))
                return receive()
            finally:
                for fd in held:
                    os.close(fd)

        monkeypatch.setattr(template, "_receive", receive_without_room)
        os.kill(first, signal.SIGKILL)
        await until(lambda: any(process.pidfd is None for process in pool._spawner._processes))
        monkeypatch.undo()
        assert await pool.run(zoo.own_pid) != first

    with_pool(scenario)


def test_a_template_that_hangs_is_replaced_when_a_worker_has_died_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slowpool.workers.handle.KILL_TIMEOUT_SECONDS", 0.1)

    async def scenario(pool: Pool) -> None:
        worker = await pool.run(zoo.own_pid)
        os.kill(pool._spawner.template_pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        await until(lambda: is_dead(worker))
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario, slow_timeout_seconds=20)


def test_one_template_is_started_at_a_time_however_late_its_failure_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = tmp_path / "fails"
    monkeypatch.setenv("FAILS", str(fails))

    async def scenario(pool: Pool) -> None:
        template = pool._spawner.template_pid
        before = _children(os.getpid())
        fails.touch()
        os.kill(template, signal.SIGKILL)
        await until(lambda: _children(os.getpid()) - before)
        (started,) = _children(os.getpid()) - before
        # The loop is blocked until the next template has failed: it sees the report and the end at once.
        os.waitid(os.P_PID, started, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        await until(lambda: "RuntimeError: on purpose" in caplog.text)
        fails.unlink()
        await until(lambda: pool._spawner.template_pid != template)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario, app="tests.apps.failing_warm:make_app")
    assert caplog.text.count("another one is started") == 1


def test_an_application_that_has_opened_a_connection_is_not_forked(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: Pool) -> None:
        assert not pool._spawner.forks
        # What warming up has started in a worker is not what a job has left.
        assert await pool.run(zoo.own_pid) == await pool.run(zoo.own_pid)

    with_pool(scenario, app="tests.apps.connected:make_app")
    assert "warming up has left connections open" in caplog.text


@pytest.mark.parametrize("size", [900, 10_000])
def test_an_exception_that_is_too_large_says_so(size: int) -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(ResultTooLarge, match="the exception, of type"):
            await pool.run(faulty.raises_what_is_large, size)
        assert await pool.run(zoo.own_pid) == pid

    with_pool(scenario, slow_max_result_bytes=1024)


def test_an_on_progress_that_never_returns_holds_up_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pool: Pool) -> None:
        own = SimpleNamespace(instance=SimpleNamespace(pool=config.Pool.SLOW), workers=pool)
        monkeypatch.setattr(instance, "serving", own)
        called = asyncio.Event()

        async def never_returns(*_: object) -> None:
            called.set()
            await asyncio.get_running_loop().create_future()

        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(ValueError, match="on purpose"):
                await slowpool.run(faulty.tells_and_raises, on_progress=never_returns)
        assert called.is_set()

    with_pool(scenario)


def test_an_on_progress_may_be_a_coroutine_function_where_there_is_no_instance() -> None:
    told: list[tuple[object, ...]] = []

    async def tell(*progress: object) -> None:
        told.append(progress)

    async def main() -> str:
        return await slowpool.run(faulty.tells, on_progress=tell)

    assert asyncio.run(main()) == "done"
    assert told == [(1, 2, "half")]


def test_many_small_items_wait_in_the_worker() -> None:
    async def scenario(pool: Pool) -> None:
        job = pool.submit(faulty.yields_little, 100_000, streamed=True)
        items: Any = job.items()
        assert await anext(items) == 0
        await until(lambda: job._buffered_bytes >= MAX_BUFFERED_BYTES)
        assert len(job._items) < 10_000
        assert [item async for item in items] == [*range(1, 100_000)]

    with_pool(scenario)


def test_the_memory_that_a_worker_may_allocate_does_not_include_what_warming_up_has_taken() -> None:
    async def scenario(pool: Pool) -> None:
        assert pool._spawner.forks
        assert len(await pool.run(zoo.echoes, bytes(10 * 2**20))) == 10 * 2**20
        with pytest.raises(MemoryError):
            await pool.run(zoo.allocates, 250 * 2**20)

    with_pool(scenario, app="tests.apps.large:make_app", slow_max_memory_bytes=200 * 2**20)


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_worker_waits_on_when_the_template_is_gone_again_before_it_is_asked() -> None:
    async def scenario(pool: Pool) -> None:
        spawner = pool._spawner
        template, spawner._template = spawner._template, None
        spawner._is_ready.clear()
        spawning = asyncio.create_task(spawner.spawn([]))
        await asyncio.sleep(0)
        spawner._is_ready.set()
        spawner._is_ready.clear()
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        assert not spawning.done()
        spawning.cancel()
        await asyncio.wait([spawning])
        spawner._template = template
        spawner._is_ready.set()
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario)
