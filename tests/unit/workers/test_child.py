"""What a task may do to its worker, and how the worker runs."""

import os
import threading
from collections.abc import Callable

import pytest

from slowpool.errors import DeadlinePassed, NotPicklable, WorkerDied, WorkerTraceback
from slowpool.linux.scheduling import has_cgroup_weight
from tests.apps import zoo
from tests.support.pool import Pool, with_pool

MEMORY_BYTES = 400 << 20


@pytest.mark.parametrize(
    ("task", "args", "expected"),
    [
        (zoo.sleeps_for_ever, (), DeadlinePassed),
        (zoo.spins_for_ever, (), DeadlinePassed),
        (zoo.holds_the_interpreter_lock_for_ever, (), DeadlinePassed),
        (zoo.ignores_sigterm, (), DeadlinePassed),
        (zoo.changes_signal_handlers, (), "changed"),
        (zoo.closes_its_output, (), "closed"),
        (zoo.exits, (), WorkerDied),
        (zoo.asks_the_system_to_exit, (), WorkerDied),
        (zoo.segfaults, (), WorkerDied),
        (zoo.recurses, (), RecursionError),
        (zoo.allocates, (), MemoryError),
        (zoo.echoes, (b"x" * (MEMORY_BYTES + 1),), MemoryError),
        (zoo.prints_garbage, (), "printed"),
        (zoo.returns_what_cannot_be_pickled, (), NotPicklable),
        (zoo.raises_what_cannot_be_pickled, (), NotPicklable),
        (zoo.raises_an_awkward_error, (), NotPicklable),
        (zoo.raises, (), ValueError),
        (zoo.echoes, (b"x" * 50_000_000,), b"x" * 50_000_000),
        (zoo.echoes, (threading.Lock(),), NotPicklable),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_after_a_task_that_misbehaves_the_next_job_is_right(
    task: Callable[..., object], args: tuple[object, ...], expected: object
) -> None:
    async def scenario(pool: Pool) -> None:
        timeout = 0.5 if expected is DeadlinePassed else 60
        if isinstance(expected, type):
            with pytest.raises(expected):
                await pool.run(task, *args, timeout=timeout)
        else:
            assert await pool.run(task, *args, timeout=timeout) == expected
        assert await pool.run(zoo.add, 3, 4) == 7

    with_pool(scenario, slow_max_memory_bytes=MEMORY_BYTES)


def test_an_exception_reaches_the_caller_as_itself_with_the_workers_traceback() -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(ValueError, match=r"^on purpose$") as raised:
            await pool.run(zoo.raises)
        assert isinstance(raised.value.__cause__, WorkerTraceback)
        assert "in raises" in str(raised.value.__cause__)
        assert "ValueError: on purpose" in str(raised.value.__cause__)

    with_pool(scenario)


def test_a_worker_is_reused_and_keeps_the_state_of_its_modules() -> None:
    async def scenario(pool: Pool) -> None:
        pids = {await pool.run(zoo.own_pid) for _ in range(5)}
        assert len(pids) == 1
        assert [await pool.run(zoo.uses_a_model) for _ in range(3)] == [1, 1, 1]

    with_pool(scenario)


def test_a_worker_gives_way_in_a_session_of_its_own_and_inherits_no_socket() -> None:
    async def scenario(pool: Pool) -> None:
        policy, nice, autogroup, cpus, leads = await pool.run(zoo.priority)
        while "nice 0" in autogroup:  # too many such writes on this machine
            _, _, autogroup, *_ = await pool.run(zoo.priority)
        assert nice == 19
        assert policy == (os.SCHED_IDLE if has_cgroup_weight() else os.SCHED_OTHER)
        assert leads
        assert cpus == {0}
        while autogroup and not autogroup.endswith("nice 19\n"):  # at most ten writes a second
            _, _, autogroup, _, _ = await pool.run(zoo.priority)
        sockets = [name for name in await pool.run(zoo.open_files) if name.startswith("socket:")]
        assert len(sockets) == 2, "the channel and the lifeline"

    with_pool(scenario, slow_cpus="0", slow_nice=19)


def test_a_worker_that_need_not_give_way_is_scheduled_as_any_other_process() -> None:
    async def scenario(pool: Pool) -> None:
        policy, nice, *_ = await pool.run(zoo.priority)
        assert (policy, nice) == (os.SCHED_OTHER, 18)

    with_pool(scenario, slow_nice=18)
