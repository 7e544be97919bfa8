"""The end of a template, or of the process that has the pool, at any moment."""

import asyncio
import contextlib
import functools
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
from tests.support.pool import Pool, all_dead, idle_workers, is_alive, is_dead, until
from tests.support.pool_host import PoolHost, template_of, wait_until_dead

ROUNDS = 4
"""Jobs of a client while templates are killed."""


async def kill_template(pool: Pool) -> None:
    """Returns when there is another one."""
    template = template_of(pool)
    os.kill(template, signal.SIGKILL)
    await until(lambda: template_of(pool) != template)


def template_starts(pool: Pool) -> list[psutil.Process]:
    """The template that warms up at this moment, if one does."""
    known = {template_of(pool), *(process.pid for process in pool._spawner._processes)}
    return [child for child in psutil.Process().children() if child.pid not in known and is_alive(child.pid)]


async def check_no_child_is_left(pool: Pool) -> None:
    """Only the template is, and the workers; no zombie."""
    size = 1 + pool.size
    await until(lambda: idle_workers(pool) == pool.size)
    await until(lambda: len(psutil.Process().children(recursive=True)) == size)


async def a_job_goes_on_and_how_workers_end_is_known(pool: Pool, path: str) -> None:
    pid = await pool.run(zoo.own_pid)
    job = asyncio.create_task(pool.run(zoo.waits_for, path))
    await until(lambda: pool.running_jobs)
    await kill_template(pool)
    os.mkdir(path)
    assert await job == pid
    assert await pool.run(zoo.own_pid) == pid
    # How a worker ends that the process with the pool has adopted is known.
    for task, how in ((zoo.exits, "exited with status 3"), (zoo.segfaults, "was killed by SIGSEGV")):
        pid, parent, _ = await pool.run(warm_tasks.origin)
        assert parent in (os.getpid(), template_of(pool))
        with pytest.raises(WorkerDied) as died:
            await pool.run(task)
        assert died.value.log_text == f"worker {pid} {how}"
        await pool.run(zoo.own_pid)
        await kill_template(pool)
    _, parent, _ = await pool.run(warm_tasks.origin)
    assert parent == os.getpid()
    os.kill(await pool.run(zoo.own_pid), signal.SIGKILL)
    _, parent, _ = await pool.run(warm_tasks.origin)
    assert parent == template_of(pool)
    await check_no_child_is_left(pool)


async def what_a_job_started_ends_too(pool: Pool, path: str) -> None:
    for end in ("cancel", "raise", "exit", "segfault", "return"):
        await until(lambda: idle_workers(pool) == 1)
        await kill_template(pool)  # the worker is adopted
        job = asyncio.create_task(
            pool.run(families.leaves_a_family, f"{path}.{end}", "hang" if end == "cancel" else end)
        )
        await until(functools.partial(os.path.exists, f"{path}.{end}.done"))
        if end == "cancel":
            job.cancel()
        await asyncio.wait([job])
        pids = families.noted(f"{path}.{end}")
        assert len(pids) == families.MEMBERS
        await until(functools.partial(all_dead, pids))
        assert await pool.run(zoo.add, 1, 1) == 2
    await check_no_child_is_left(pool)


async def templates_are_killed_all_the_time_and_every_job_is_answered(pool: Pool) -> None:
    """While they serve, while they start a worker, and once while they warm up."""
    random.seed(7)

    async def killer() -> None:
        while True:
            await asyncio.sleep(random.uniform(0, 0.1))
            killing = asyncio.create_task(kill_template(pool))
            if random.random() < 0.5:
                await until(functools.partial(template_starts, pool))
                for process in template_starts(pool):
                    process.kill()
            await killing

    async def client(number: int) -> None:
        for _ in range(ROUNDS):
            assert await pool.run(zoo.add, number, 1) == number + 1
            with pytest.raises(WorkerDied):
                await pool.run(zoo.exits)

    killing = asyncio.create_task(killer())
    await asyncio.gather(*(client(number) for number in range(3)))
    killing.cancel()
    await asyncio.wait([killing])
    assert killing.cancelled()
    assert await pool.run(zoo.add, 1, 1) == 2
    await check_no_child_is_left(pool)


async def idle_workers_are_killed_while_jobs_are_sent_and_every_job_is_answered(
    pool: Pool, rounds: str
) -> None:
    not_begun = 0
    for number in range(int(rounds)):
        pid = await idle_pid(pool)
        handles = []
        if number % 2:
            kill(pid)
            job = pool.submit(zoo.add, number, 1)
        else:
            job = pool.submit(zoo.add, number, 1)
            while not job.worker_pid and not job.outcome.done():  # until it is sent
                await asyncio.sleep(0)
            handles = [*pool.running_jobs.values()]
            kill(pid)
        try:
            assert await job.result() == number + 1
            not_begun += job.worker_pid != pid
        except WorkerDied:
            assert [handle.has_begun_job for handle in handles] == [True]
    print(f"{not_begun} jobs were given to another worker")
    await check_no_child_is_left(pool)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the kill of the last round may have come after the reply
        os.kill(pid, signal.SIGKILL)


async def idle_pid(pool: Pool) -> int:
    """The pid of the only worker, once it waits for a job."""
    await until(lambda: idle_workers(pool) == len(pool._spawner._processes) == 1)
    (process,) = pool._spawner._processes
    return process.pid


@pytest.mark.parametrize(
    "scenario",
    [
        a_job_goes_on_and_how_workers_end_is_known,
        what_a_job_started_ends_too,
    ],
)
@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_when_a_template_ends_its_workers_go_on_and(scenario: object, fork: bool, tmp_path: Path) -> None:
    with PoolHost(scenario, str(tmp_path / "file"), slow_fork=fork):  # type: ignore[arg-type]
        pass


def test_templates_that_are_killed_all_the_time_cost_no_job_and_leave_nothing() -> None:
    with PoolHost(templates_are_killed_all_the_time_and_every_job_is_answered, slow_workers=3):
        pass


@pytest.mark.parametrize(("fork", "rounds"), [(True, 100), (False, 20)], ids=["forked", "afresh"])
def test_a_job_that_is_sent_to_a_worker_which_is_killed_at_that_moment_is_not_lost(
    fork: bool, rounds: int
) -> None:
    scenario = idle_workers_are_killed_while_jobs_are_sent_and_every_job_is_answered
    with PoolHost(scenario, str(rounds), slow_fork=fork):
        pass


async def a_template_leaves_what_it_started(pool: Pool, path: str) -> None:
    for _ in range(2):
        (child,) = families.noted(path)
        assert is_alive(child)
        await kill_template(pool)
        await until(functools.partial(is_dead, child))
        assert await pool.run(zoo.add, 1, 1) == 2


def test_what_a_template_that_is_killed_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pids"
    monkeypatch.setenv("WARMED", f"child:{path}")
    monkeypatch.setenv("WARMED_BY", str(tmp_path / "warmed by"))
    with PoolHost(a_template_leaves_what_it_started, str(path), app="tests.apps.warmed:model"):
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
        wait_until(lambda: all_dead(pids))
        ignore_end(host)


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
@pytest.mark.parametrize("seen_before", [1, 2, 3, 4, 7, 9])
def test_a_process_with_a_pool_that_is_killed_at_any_moment_leaves_nothing(
    seen_before: int, fork: bool, tmp_path: Path
) -> None:
    random.seed(seen_before)
    with PoolHost(runs_families, str(tmp_path / "pids"), slow_workers=2, slow_fork=fork) as host:
        seen: dict[int, psutil.Process] = {}

        def count() -> int:
            seen.update({process.pid: process for process in host.descendants()})
            return len(seen)

        wait_until(lambda: count() >= seen_before)
        time.sleep(random.uniform(0, 0.03))  # any moment after it
        host.signal(signal.SIGKILL)
        wait_until_dead([*seen.values()])
        wait_until(lambda: all_dead(noted(tmp_path)))
        ignore_end(host)


def ignore_end(host: PoolHost) -> None:
    """The host was killed on purpose."""
    assert host.wait() == -signal.SIGKILL
    host.check_end = lambda: None  # type: ignore[method-assign]
