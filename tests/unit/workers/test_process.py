"""All that a job has started ends with it, and how a worker ended is known."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from slowpool.errors import DeadlinePassed, WorkerDied
from tests.apps import families, zoo
from tests.support.pool import Pool, all_dead, idle_workers, is_alive, is_dead, until, with_pool

KINDS = ["/dev/null", "/memfd", "pipe", "socket", "socket"]

ENDS = ["return", "raise", "exit", "segfault", "kill itself", "cancel", "deadline", "killed"]


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
@pytest.mark.parametrize("end", ENDS)
def test_children_with_an_empty_environment_and_a_session_of_their_own_end_with_the_job(
    end: str, fork: bool, tmp_path: Path
) -> None:
    path = tmp_path / "pids"

    async def scenario(pool: Pool) -> None:
        before = await pool.run(zoo.own_pid)
        then = end if end in ENDS[:5] else "hang"
        timeout = 5.0 if end == "deadline" else None
        job = asyncio.create_task(pool.run(families.leaves_a_family, str(path), then, timeout=timeout))
        await until(lambda: job.done() or Path(f"{path}.done").exists())
        if end == "cancel":
            job.cancel()
        elif end == "killed":
            os.kill(before, signal.SIGKILL)
        with contextlib.suppress(ValueError, WorkerDied, DeadlinePassed, asyncio.CancelledError):
            await job
        pids = families.noted(str(path))
        assert len(pids) == families.MEMBERS
        await until(lambda: all_dead(pids))
        assert await pool.run(zoo.add, 1, 1) == 2
        assert await pool.run(zoo.own_pid) != before

    with_pool(scenario, slow_fork=fork)


def test_the_children_of_one_job_end_and_those_of_another_go_on(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        paths = [tmp_path / "one", tmp_path / "other"]
        jobs = [asyncio.create_task(pool.run(families.leaves_a_family, str(path), "hang")) for path in paths]
        await until(lambda: all(Path(f"{path}.done").exists() for path in paths))
        one, other = (families.noted(str(path)) for path in paths)
        jobs[0].cancel()
        await until(lambda: all(map(is_dead, one)))
        assert await pool.run(zoo.add, 1, 1) == 2
        assert all(map(is_alive, other))
        jobs[1].cancel()
        await until(lambda: all(map(is_dead, other)))

    with_pool(scenario, slow_workers=2)


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_no_descriptor_of_another_worker_or_of_the_instance_reaches_a_worker(fork: bool) -> None:
    async def scenario(pool: Pool) -> None:
        own = {name for name, *_ in families.descriptors().values() if name.startswith("socket:")}
        for _ in range(2):  # the second time, workers that have replaced others
            await until(lambda: idle_workers(pool) == 3)
            by_worker: dict[int, set[tuple[str, int, int]]] = {}
            while len(by_worker) < 3:  # a quick worker may run several
                jobs = [pool.submit(families.descriptors) for _ in range(3)]
                found = [{*(await job.result()).values()} for job in jobs]
                by_worker |= {job.worker_pid: files for job, files in zip(jobs, found, strict=True)}
            for files in by_worker.values():  # channel, lifeline, output, and the file with the progress
                assert sorted(name.partition(":")[0] for name, *_ in files) == KINDS
                assert not own & {name for name, *_ in files}
            everywhere = set.intersection(*by_worker.values())
            assert [name for name, *_ in everywhere] == ["/dev/null"]
            for pid in by_worker:
                os.kill(pid, signal.SIGKILL)
            await until(functools.partial(all_dead, by_worker))

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0],
    ):
        with_pool(scenario, slow_workers=3, slow_fork=fork)


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
@pytest.mark.parametrize("task", [families.exits_while_a_thread_lives, families.closes_all_files])
def test_a_worker_that_has_closed_its_channel_is_noticed_long_before_the_deadline(
    task: Callable[[], None], fork: bool
) -> None:
    # A forked worker does not wait for its threads.
    exits = fork and task is families.exits_while_a_thread_lives
    how = "exited with status 0" if exits else "was killed by SIGKILL after it closed its channel"

    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        with pytest.raises(WorkerDied) as died:
            await pool.run(task)
        assert died.value.log_text == f"worker {pid} {how}"
        assert await pool.run(zoo.add, 1, 1) == 2

    times = {"slow_timeout_seconds": 600, "drain_timeout_seconds": 603, "stop_grace_seconds": 700}
    with_pool(scenario, slow_fork=fork, **times)
