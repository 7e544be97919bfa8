import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Config
from slowpool.errors import DeadlinePassed, Draining, NotPicklable, PoolFull, WorkerDied, WorkerTraceback
from slowpool.workers.child import _has_cgroup_weight
from slowpool.workers.handle import Worker
from slowpool.workers.pool import WorkerPool
from tests.apps import zoo
from tests.support.basics import ROOT

MEMORY_BYTES = 400 << 20
SOON_SECONDS = 10.0


def with_pool(scenario: Callable[[WorkerPool], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario with a started pool, and close the pool."""

    async def main() -> None:
        pool = WorkerPool(Config(**{"slow_nice": 0, **settings}))  # gives way to no other test
        await pool.start()
        try:
            await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


def is_dead(pid: int) -> bool:
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


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
    async def scenario(pool: WorkerPool) -> None:
        timeout = 0.5 if expected is DeadlinePassed else 60
        if isinstance(expected, type):
            with pytest.raises(expected):
                await pool.run(task, *args, timeout=timeout)
        else:
            assert await pool.run(task, *args, timeout=timeout) == expected
        assert await pool.run(zoo.add, 3, 4) == 7

    with_pool(scenario, slow_max_memory_bytes=MEMORY_BYTES)


def test_a_job_whose_deadline_passes_while_it_waits_never_starts(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        blocker = asyncio.create_task(pool.run(zoo.sleep, 0.5))
        await until(lambda: pool.running)
        with pytest.raises(DeadlinePassed):
            await pool.run(os.mkdir, str(tmp_path / "started"), timeout=0.1)
        await blocker
        assert await pool.run(zoo.add, 1, 1) == 2
        assert not (tmp_path / "started").exists()

    with_pool(scenario)


def test_the_worker_is_gone_when_a_passed_deadline_is_answered() -> None:
    async def scenario(pool: WorkerPool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.spins_for_ever, timeout=0.2)
        assert not is_alive(pid)

    with_pool(scenario)


def test_the_children_of_a_killed_worker_die_even_in_a_session_of_their_own(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        path = tmp_path / "pids"
        job = asyncio.create_task(pool.run(zoo.spawns_children_and_threads, str(path)))
        await until(path.exists)
        children = [int(pid) for pid in path.read_text().split()]
        assert len(children) == 2
        assert all(map(is_alive, children))
        job.cancel()
        await until(lambda: all(map(is_dead, children)))
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


def test_a_cancelled_waiting_job_leaves_the_queue_and_the_others_keep_their_order() -> None:
    async def scenario(pool: WorkerPool) -> None:
        order: list[int] = []

        async def job(number: int) -> None:
            await pool.run(zoo.add, number, 0)
            order.append(number)

        blocker = asyncio.create_task(pool.run(zoo.sleep, 0.3))
        await until(lambda: pool.running)
        jobs = [asyncio.create_task(job(number)) for number in range(4)]
        await until(lambda: pool.waiting == 4)
        jobs[1].cancel()
        await until(lambda: pool.waiting == 3)
        await asyncio.gather(blocker, *jobs, return_exceptions=True)
        assert order == [0, 2, 3]

    with_pool(scenario)


def test_a_slot_is_not_free_before_its_worker_is_gone() -> None:
    async def scenario(pool: WorkerPool) -> None:
        job = asyncio.create_task(pool.run(zoo.spins_for_ever))
        await until(lambda: pool.running)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        with pytest.raises(PoolFull):  # no place in the queue, and the worker is only being replaced
            pool.submit(zoo.add, 1, 1)
        await until(lambda: not pool.running)

    with_pool(scenario, slow_queue=0)


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_worker_whose_start_is_cancelled_leaves_no_socket_unclosed(turns: int) -> None:
    async def scenario() -> None:
        worker = Worker(Config(slow_nice=0))
        starting = asyncio.create_task(worker.start())
        for _ in range(turns):  # of the loop
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await worker.stop(10)

    asyncio.run(scenario())  # a ResourceWarning would be an error


def test_a_full_pool_refuses_with_the_time_that_the_queue_ahead_takes() -> None:
    async def scenario(pool: WorkerPool) -> None:
        for _ in range(30):  # until the estimate has come near the service time
            await pool.run(zoo.sleep, 0.05)
        jobs = [asyncio.create_task(pool.run(zoo.sleep, 1.5)) for _ in range(5)]
        await until(lambda: pool.running == 2 and pool.waiting == 3)
        with pytest.raises(PoolFull) as refused:
            pool.submit(zoo.add, 1, 1)
        assert refused.value.headers() == {"Retry-After": "1"}
        await asyncio.gather(*jobs)
        for _ in range(5):  # the newest jobs weigh most
            await pool.run(zoo.sleep, 1.0)
        jobs = [asyncio.create_task(pool.run(zoo.sleep, 1.0)) for _ in range(5)]
        await until(lambda: pool.running == 2 and pool.waiting == 3)
        with pytest.raises(PoolFull) as refused:
            pool.submit(zoo.add, 1, 1)
        # Four jobs of about 1 s, the three that wait and this one, on two workers.
        assert refused.value.headers() in ({"Retry-After": "2"}, {"Retry-After": "3"})
        await asyncio.gather(*jobs)

    with_pool(scenario, slow_workers=2, slow_queue=3)


def test_an_exception_reaches_the_caller_as_itself_with_the_workers_traceback() -> None:
    async def scenario(pool: WorkerPool) -> None:
        with pytest.raises(ValueError, match=r"^on purpose$") as raised:
            await pool.run(zoo.raises)
        assert isinstance(raised.value.__cause__, WorkerTraceback)
        assert "in raises" in str(raised.value.__cause__)
        assert "ValueError: on purpose" in str(raised.value.__cause__)

    with_pool(scenario)


@pytest.mark.parametrize(
    ("task", "args", "text"),
    [
        (lambda: None, (), "define it with def at the top level"),
        (zoo.echoes, (threading.Lock(),), "an argument of echoes, of type _thread.lock"),
        (zoo.returns_what_cannot_be_pickled, (), "the result, of type _thread.lock"),
        (zoo.raises_what_cannot_be_pickled, (), "the exception, of type tests.apps.zoo.ErrorWithALock"),
        (zoo.raises_an_awkward_error, (), "the exception, of type tests.apps.zoo.AwkwardError"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_type(
    task: Callable[..., object], args: tuple[object, ...], text: str
) -> None:
    async def scenario(pool: WorkerPool) -> None:
        with pytest.raises(NotPicklable) as raised:
            await pool.run(task, *args)
        assert text in str(raised.value)

    with_pool(scenario)


@pytest.mark.parametrize(
    ("task", "text"),
    [(zoo.exits, "exited with status 3"), (zoo.segfaults, "was killed by SIGSEGV")],
)
def test_a_dead_worker_is_named_with_its_pid_and_how_it_ended(task: Callable[[], None], text: str) -> None:
    async def scenario(pool: WorkerPool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(WorkerDied) as died:
            await pool.run(task)
        assert died.value.get_message() == f"worker {pid} {text}"

    with_pool(scenario)


def test_a_worker_that_is_killed_while_idle_is_replaced_and_no_job_fails() -> None:
    async def scenario(pool: WorkerPool) -> None:
        for _ in range(20):
            pid = await pool.run(zoo.own_pid)
            os.kill(pid, signal.SIGKILL)
            await until(functools.partial(is_dead, pid))
            assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


def test_a_worker_is_reused_and_keeps_the_state_of_its_modules() -> None:
    async def scenario(pool: WorkerPool) -> None:
        pids = {await pool.run(zoo.own_pid) for _ in range(5)}
        assert len(pids) == 1
        assert [await pool.run(zoo.uses_a_model) for _ in range(3)] == [1, 1, 1]

    with_pool(scenario)


def test_a_worker_is_replaced_after_its_number_of_jobs() -> None:
    async def scenario(pool: WorkerPool) -> None:
        pids = [await pool.run(zoo.own_pid) for _ in range(6)]
        assert pids[0] == pids[1]
        assert len(set(pids)) == 3

    with_pool(scenario, slow_max_jobs=2)


def test_a_worker_that_has_grown_is_replaced_after_its_job() -> None:
    async def scenario(pool: WorkerPool) -> None:
        small = [await pool.run(zoo.own_pid) for _ in range(3)]
        assert len(set(small)) == 1
        await pool.run(zoo.echoes, b"x" * (200 << 20))
        assert await pool.run(zoo.own_pid) != small[0]

    with_pool(scenario, slow_max_rss_bytes=100 << 20)


def test_a_worker_gives_way_in_a_session_of_its_own_and_inherits_no_socket() -> None:
    async def scenario(pool: WorkerPool) -> None:
        policy, nice, autogroup, cpus, leads = await pool.run(zoo.priority)
        assert nice == 19
        assert policy == (os.SCHED_IDLE if _has_cgroup_weight() else os.SCHED_OTHER)
        assert leads
        assert cpus == {0}
        if autogroup:
            assert autogroup.endswith("nice 19\n")
        sockets = [name for name in await pool.run(zoo.open_files) if name.startswith("socket:")]
        assert len(sockets) == 3, "the channel, and the lifeline with its duplicate"

    with_pool(scenario, slow_cpus="0", slow_nice=19)


@pytest.mark.parametrize(
    ("cgroups", "weights", "expected"),
    [
        ("4:cpu,cpuacct:/\n0::/\n", [], False),
        ("4:cpu,cpuacct:/docker/3f2a\n0::/\n", [], True),
        ("4:cpuset:/docker/3f2a\n", [], False),
        ("0::/\n", [], False),
        ("0::/\n", ["."], True),
        ("0::/user.slice/session.scope\n", ["user.slice"], True),
        ("0::/user.slice/session.scope\n", ["system.slice"], False),
    ],
)
def test_a_scheduling_group_is_a_cgroup_where_that_has_a_weight(
    tmp_path: Path, cgroups: str, weights: list[str], expected: bool
) -> None:
    (tmp_path / "cgroup").write_text(cgroups)
    for folder in weights:
        (tmp_path / "fs" / folder).mkdir(parents=True)
        (tmp_path / "fs" / folder / "cpu.weight").write_text("100\n")
    assert _has_cgroup_weight(str(tmp_path / "cgroup"), str(tmp_path / "fs")) is expected


def test_a_worker_that_need_not_give_way_is_scheduled_as_any_other_process() -> None:
    async def scenario(pool: WorkerPool) -> None:
        policy, nice, *_ = await pool.run(zoo.priority)
        assert (policy, nice) == (os.SCHED_OTHER, 18)

    with_pool(scenario, slow_nice=18)


def test_what_a_task_prints_is_logged_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: WorkerPool) -> None:
        pid = await pool.run(zoo.own_pid)
        await pool.submit(zoo.says, "hello", request_id="id-1").result()
        await pool.submit(zoo.says, "again", request_id="id-2").result()
        lines = [(record.getMessage(), getattr(record, "request_id", "")) for record in caplog.records]
        assert (f"worker {pid}: hello", "id-1") in lines
        assert (f"worker {pid}: again", "id-2") in lines

    with_pool(scenario)


def test_a_flood_of_output_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: WorkerPool) -> None:
        await pool.run(zoo.prints_garbage)

    with_pool(scenario)
    assert sum(map(len, caplog.messages)) < 1 << 20
    assert any("more bytes of output are not logged" in message for message in caplog.messages)


def test_a_closed_pool_refuses_and_fails_the_job_that_it_had_just_handed_out() -> None:
    async def scenario(pool: WorkerPool) -> None:
        just_handed_out = pool.submit(zoo.add, 1, 1)
        await pool.close()
        with pytest.raises(Draining):
            await just_handed_out.result()
        with pytest.raises(Draining):
            pool.submit(zoo.add, 1, 1)

    with_pool(scenario)


def test_without_pidfds_the_end_of_a_worker_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError("not allowed")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def scenario(pool: WorkerPool) -> None:
        with pytest.raises(WorkerDied):
            await pool.run(zoo.exits)
        with pytest.raises(DeadlinePassed):
            await pool.run(zoo.spins_for_ever, timeout=0.2)
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario)


def test_closing_the_pool_fails_its_jobs_as_draining_and_leaves_no_process() -> None:
    pids: list[int] = []
    jobs: list[asyncio.Task[None]] = []

    async def scenario(pool: WorkerPool) -> None:
        pids.append(await pool.run(zoo.own_pid))
        jobs.extend(asyncio.create_task(pool.run(zoo.sleeps_for_ever)) for _ in range(3))
        await until(lambda: pool.running and pool.waiting == 2)
        await pool.close()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(result) for result in results] == [Draining] * 3
        assert not is_alive(pids[0])

    with_pool(scenario)


@pytest.mark.timeout(180)
def test_in_a_soak_every_job_ends_exactly_once_and_nothing_is_left(pytestconfig: pytest.Config) -> None:
    # In a process of its own: it kills children of its process at random.
    seconds = 10 if pytestconfig.getoption("--short") else 30
    command = [sys.executable, "-m", "tests.bench.soak", f"--seconds={seconds}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for outcome in ("answered", "late", "cancelled", "raised", "died", "kill -9"):
        assert f"'{outcome}': " in done.stdout
