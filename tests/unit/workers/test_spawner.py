"""The end of a template, or of the process with the pool, at any moment, leaves nothing that is lost."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from slowpool.errors import WorkerDied
from tests.apps import dies_at_fork, families, warm_tasks, zoo
from tests.support.basics import wait_until
from tests.support.pool import Pool, idle_workers, is_alive, is_dead, until
from tests.support.pool_host import PoolHost, template_of, wait_until_dead

ROUNDS = 10


async def kill_template(pool: Pool) -> None:
    """Returns when there is another one."""
    template = template_of(pool)
    os.kill(template, signal.SIGKILL)
    await until(lambda: template_of(pool) != template)


async def check_no_child_is_left(pool: Pool) -> None:
    """Only the template is, and the workers; no zombie."""
    size = 1 + pool.size
    await until(lambda: idle_workers(pool) == pool.size)
    await until(lambda: len(psutil.Process().children(recursive=True)) == size)


async def a_job_goes_on_without_its_template(pool: Pool, path: str) -> None:
    pid = await pool.run(zoo.own_pid)
    job = asyncio.create_task(pool.run(zoo.waits_for, path))
    await until(lambda: pool.running_jobs)
    await kill_template(pool)
    Path(path).touch()
    assert await job == pid
    assert await pool.run(zoo.own_pid) == pid
    # How a worker ends that the process with the pool has adopted is known.
    for task, how in ((zoo.exits, "exited with status 3"), (zoo.segfaults, "was killed by SIGSEGV")):
        pid, parent, _ = await pool.run(warm_tasks.origin)
        assert parent in (os.getpid(), template_of(pool))
        try:
            await pool.run(task)
        except WorkerDied as died:
            assert died.log_text == f"worker {pid} {how}", died.log_text
        else:
            raise AssertionError("the worker did not die")
        await pool.run(zoo.own_pid)
        await kill_template(pool)
    await pool.run(families.descriptors)
    _, parent, _ = await pool.run(warm_tasks.origin)
    assert parent == os.getpid()
    os.kill(await pool.run(zoo.own_pid), signal.SIGKILL)
    _, parent, _ = await pool.run(warm_tasks.origin)
    assert parent == template_of(pool)
    await check_no_child_is_left(pool)


async def what_a_job_started_ends_though_the_template_has_ended(pool: Pool, path: str) -> None:
    for number, end in enumerate(("cancel", "raise", "exit", "segfault", "return")):
        then = "hang" if end == "cancel" else end
        family = Path(f"{path}.{number}")
        await until(lambda: idle_workers(pool) == 1)
        await kill_template(pool)  # the worker is adopted
        job = asyncio.create_task(pool.run(families.leaves_a_family, str(family), then))
        await until(Path(f"{family}.done").exists)
        job.cancel()
        await asyncio.wait([job])
        pids = [int(pid) for pid in family.read_text().split()]
        assert len(pids) == families.MEMBERS
        await until(lambda pids=pids: all(map(is_dead, pids)))
        assert await pool.run(zoo.add, number, 10) == number + 10
    await check_no_child_is_left(pool)


async def templates_are_killed_all_the_time_and_every_job_is_answered(pool: Pool) -> None:
    random.seed(7)
    started = time.monotonic()

    async def killer() -> None:
        while True:
            await asyncio.sleep(random.uniform(0, 0.3))
            for child in psutil.Process().children():
                if child.name() == "slow-template" or child.pid == template_of(pool):
                    child.kill()

    async def client(number: int) -> None:
        for _ in range(ROUNDS):
            try:
                assert await pool.run(zoo.add, number, 1) == number + 1
                await pool.run(zoo.exits)
            except WorkerDied:
                continue
            raise AssertionError("the worker did not die")

    killing = asyncio.create_task(killer())
    await asyncio.gather(*(client(number) for number in range(3)))
    killing.cancel()
    print(f"{time.monotonic() - started:g} s")
    assert await pool.run(zoo.add, 1, 1) == 2
    await check_no_child_is_left(pool)


async def idle_workers_are_killed_while_jobs_are_sent_and_every_job_is_answered(pool: Pool) -> None:
    for number in range(20 * ROUNDS):
        await until(lambda: idle_workers(pool) == 1)
        (pid,) = [process.pid for process in pool._spawner._processes]
        if number % 2:
            os.kill(pid, signal.SIGKILL)
            job = pool.submit(zoo.add, number, 1)
        else:
            job = pool.submit(zoo.add, number, 1)
            for _ in range(number % 8):  # turns of the loop
                await asyncio.sleep(0)
            if not job.outcome.done():
                killed_before_it_began = not await begins(pool, pid)
                if not killed_before_it_began:
                    await asyncio.gather(job.result(), return_exceptions=True)
                    continue
        assert await job.result() == number + 1
    await check_no_child_is_left(pool)


async def begins(pool: Pool, pid: int) -> bool:
    """Kill the worker; returns whether it had begun its job."""
    handles = [*pool.running_jobs.values()]
    os.kill(pid, signal.SIGKILL)
    for handle in handles:
        await handle.exited
        return handle.has_begun_job
    return False


@pytest.mark.parametrize(
    "scenario",
    [
        a_job_goes_on_without_its_template,
        what_a_job_started_ends_though_the_template_has_ended,
    ],
)
@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_when_a_template_ends_its_workers_go_on_and(scenario: object, fork: bool, tmp_path: Path) -> None:
    with PoolHost(scenario, str(tmp_path / "file"), slow_fork=fork):  # type: ignore[arg-type]
        pass


def test_templates_that_are_killed_all_the_time_cost_no_job_and_leave_nothing() -> None:
    with PoolHost(templates_are_killed_all_the_time_and_every_job_is_answered, slow_workers=3):
        pass


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_a_job_that_is_sent_to_a_worker_which_is_killed_at_that_moment_is_not_lost(fork: bool) -> None:
    with PoolHost(idle_workers_are_killed_while_jobs_are_sent_and_every_job_is_answered, slow_fork=fork):
        pass


async def templates_die_just_after_a_fork(pool: Pool, path: str) -> None:
    folder = Path(path)
    folder.mkdir()
    while len([*folder.iterdir()]) < dies_at_fork.FORKS:
        await pool.run(zoo.add, 1, 1)
        for process in psutil.Process().children(recursive=True):
            process.kill()
    await check_no_child_is_left(pool)


def test_a_template_that_dies_before_it_has_told_of_a_fork_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "dies")
    monkeypatch.setenv("DIES_AT_FORK", path)
    app = "tests.apps.dies_at_fork:model"
    with PoolHost(templates_die_just_after_a_fork, path, slow_workers=2, app=app):
        pass


async def runs_families(pool: Pool, path: str) -> None:
    """Jobs whose processes note their pids in the file; never ends."""
    jobs = [
        asyncio.create_task(pool.run(families.leaves_a_family, f"{path}.{number}", "hang"))
        for number in range(pool.size)
    ]
    await until(lambda: all(Path(f"{path}.{number}.done").exists() for number in range(pool.size)))
    print("the families are there", flush=True)
    await asyncio.wait(jobs)


def noted(folder: Path) -> list[int]:
    """The pids in its files."""
    return [int(pid) for file in folder.iterdir() for pid in file.read_text().split() if pid.isdecimal()]


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_a_process_with_a_pool_that_is_killed_leaves_nothing(fork: bool, tmp_path: Path) -> None:
    with PoolHost(runs_families, str(tmp_path / "pids"), slow_workers=2, slow_fork=fork) as host:
        host.wait_for_output("the families are there")
        processes = host.descendants()
        pids = noted(tmp_path)
        assert len(pids) == 2 * families.MEMBERS
        assert len(processes) >= 3 + len(pids)
        host.signal(signal.SIGKILL)
        wait_until_dead(processes)
        wait_until(lambda: all(map(is_dead, pids)))
        ignore_end(host)


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_a_process_with_a_pool_that_is_killed_at_any_moment_leaves_nothing(
    fork: bool, tmp_path: Path
) -> None:
    random.seed(11)
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        host = PoolHost(runs_families, str(folder / "pids"), slow_workers=2, slow_fork=fork)
        with host:
            seen: dict[int, psutil.Process] = {}
            enough = random.choice(["template", "worker", "first", "last"])

            def is_far_enough(
                host: PoolHost = host,
                seen: dict[int, psutil.Process] = seen,
                enough: str = enough,
                folder: Path = folder,
            ) -> bool:
                seen.update({process.pid: process for process in host.descendants()})
                reached = {
                    "template": len(seen) >= 1,
                    "worker": len(seen) >= 2,
                    "first": bool(noted(folder)),
                    "last": len(noted(folder)) >= families.MEMBERS,
                }
                return reached[enough]

            wait_until(is_far_enough)
            time.sleep(random.uniform(0, 0.02))  # any moment after it
            seen.update({process.pid: process for process in host.descendants()})
            host.signal(signal.SIGKILL)
            wait_until_dead([*seen.values()])
            wait_until(lambda folder=folder: all(map(is_dead, noted(folder))))
            ignore_end(host)
    assert is_alive(os.getpid())


def ignore_end(host: PoolHost) -> None:
    """The host was killed on purpose."""
    assert host.wait() == -signal.SIGKILL
    host.check_end = lambda: None  # type: ignore[method-assign]
