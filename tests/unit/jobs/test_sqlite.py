"""What is special about accepted jobs in a file."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from slowpool.jobs import sqlite
from slowpool.jobs.record import Beat, State
from slowpool.jobs.store import KeyTaken, Store, StoreError
from slowpool.jobs.tables import Tables
from tests.support.basics import ROOT
from tests.support.job_stores import FilePlace, new_job

ADD = """
import asyncio, os, pathlib, signal, sys
from tests.support.job_stores import FilePlace, new_job

async def scenario(store):
    for number in range(20):
        status, _ = await store.add(new_job(number))
        print(status.id, flush=True)
    if sys.argv[2:]:
        os.kill(os.getpid(), int(sys.argv[2]))

FilePlace(pathlib.Path(sys.argv[1])).run(scenario)
"""
"""Another process that adds jobs, prints their ids, and sends itself a signal."""


def start(file: Path, *arguments: object) -> "subprocess.Popen[str]":
    """Another process, with ADD."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'app'}"}
    command = [sys.executable, "-c", ADD, str(file), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """This process can make no file larger than this, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def add(store: Store) -> None:
    """Add a job."""
    await store.add(new_job(1))


async def has_one(store: Store) -> None:
    """There is one job."""
    assert (await store.totals()).by_state[State.WAITING] == 1


def test_nothing_is_made_before_the_first_job(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        assert await store.take("slow:8101") is None
        assert await store.beat([Beat("0" * 32, 1)]) == ["0" * 32]
        assert await store.cancel("0" * 32) is None
        assert await store.status("0" * 32) is None
        await store.sweep()
        assert (await store.totals()).by_state == dict.fromkeys(State, 0)
        assert await store.failures(10) == []
        assert not file.file.parent.exists()
        await add(store)
        assert file.file.exists()

    file.run(scenario)


def test_the_file_belongs_to_its_user_only(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        await add(store)
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.file.parent.iterdir()}
        assert modes == {"jobs.sqlite": 0o600, "jobs.sqlite-wal": 0o600, "jobs.sqlite-shm": 0o600}
        assert file.file.parent.stat().st_mode & 0o777 == 0o700

    file.run(scenario)


def test_a_folder_that_is_there_keeps_its_mode(file: FilePlace) -> None:
    file.file.parent.mkdir()
    file.file.parent.chmod(0o755)
    file.run(add, has_one)
    assert file.file.parent.stat().st_mode & 0o777 == 0o755


def test_jobs_are_there_after_their_process_was_killed(file: FilePlace) -> None:
    with start(file.file, signal.SIGKILL.value) as process:
        ids = process.communicate(timeout=60)[0].split()
    assert process.returncode == -signal.SIGKILL
    assert len(ids) == 20

    async def scenario(store: Store) -> None:
        assert [lease.id for _ in ids if (lease := await store.take("slow:8101"))] == ids

    file.run(scenario)


def test_many_processes_can_make_the_file_at_once(file: FilePlace) -> None:
    processes = [start(file.file) for _ in range(6)]
    ids = [id for process in processes for id in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * 6

    async def scenario(store: Store) -> None:
        for id in ids:
            assert await store.status(id)
        assert (await store.totals()).by_state[State.WAITING] == 120

    file.run(scenario)


def test_calls_that_come_at_once_share_commits(file: FilePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def do_together(tables: Tables, calls: list[Any]) -> list[Any]:
        sizes.append(len(calls))
        return together(tables, calls)

    together = Tables.do_together
    monkeypatch.setattr(Tables, "do_together", do_together)

    async def scenario(store: Store) -> None:
        await asyncio.gather(*(add(store) for _ in range(500)))
        assert (await store.totals()).by_state[State.WAITING] == 500
        assert len(sizes) < 100

    file.run(scenario)


def test_a_call_that_fails_undoes_nothing_of_those_that_share_its_commit(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        jobs = [new_job(number, key=f"key {number // 2}", digest=str(number)) for number in range(100)]
        results = await asyncio.gather(*(store.add(job) for job in jobs), return_exceptions=True)
        assert [type(result) for result in results[1::2]] == [KeyTaken] * 50
        added = [result[0].id for result in results if isinstance(result, tuple)]
        assert added == [job.id for job in jobs[::2]]
        assert (await store.totals()).by_state[State.WAITING] == 50

    file.run(scenario)


def test_a_full_disk_refuses_jobs_and_keeps_those_that_are_there(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        first, _ = await store.add(new_job(1))
        with largest_file(100_000):
            with pytest.raises(StoreError, match=rf"{file.file}: disk I/O error; free some space"):
                await store.add(new_job(2, body=b"x" * 1_000_000))
            assert await store.status(first.id)
        status, _ = await store.add(new_job(2, body=b"x" * 1_000_000))
        assert status.ahead == 1

    file.run(scenario)


def test_a_file_that_cannot_be_made_on_a_full_disk_is_made_later(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        with largest_file(5_000), pytest.raises(StoreError, match=str(file.file)):
            await add(store)
        await add(store)
        await has_one(store)

    file.run(scenario)


def test_a_file_that_is_no_database_is_said(file: FilePlace) -> None:
    file.file.parent.mkdir()

    async def scenario(store: Store) -> None:
        for content in (b"no database" * 1000, b""):
            file.file.write_bytes(content)
            with pytest.raises(StoreError, match=rf"{file.file}: .*; move the file away"):
                await add(store)
        file.file.unlink()
        await add(store)
        await has_one(store)

    async def cannot_open() -> None:
        with pytest.raises(StoreError, match="move the file away"):
            await file.store().open()

    file.file.write_bytes(b"no database" * 1000)
    asyncio.run(cannot_open())
    file.file.unlink()
    file.run(scenario)


def test_a_folder_that_cannot_be_made_is_said(file: FilePlace) -> None:
    file.file.parent.write_text("a file")

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreError, match=rf"{file.file}: .*; let this user write to it and its folder"):
            await add(store)
        file.file.parent.unlink()
        await add(store)

    file.run(scenario, has_one)


def test_a_locked_file_is_said_and_can_be_used_afterwards(
    file: FilePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)

    async def scenario(store: Store) -> None:
        await add(store)
        with closing(sqlite3.connect(file.file, isolation_level=None)) as other:
            other.execute("begin immediate")
            with pytest.raises(StoreError, match=rf"{file.file}: database is locked; another program"):
                await add(store)
            await has_one(store)
        await store.add(new_job(2))
        assert (await store.totals()).by_state[State.WAITING] == 2

    file.run(scenario)


@pytest.mark.parametrize("gone", ["file", "database alone", "folder"])
def test_a_new_file_is_made_when_it_was_removed(file: FilePlace, gone: str) -> None:
    async def scenario(store: Store) -> None:
        old, _ = await store.add(new_job(1))
        if gone == "folder":
            shutil.rmtree(file.file.parent)
        elif gone == "file":
            for path in file.file.parent.iterdir():
                path.unlink()
        else:
            file.file.unlink()
        assert await store.status(old.id) is None
        assert await store.beat([Beat(old.id, 1)]) == [old.id]
        new, _ = await store.add(new_job(2))
        assert await store.status(new.id) == new
        await file.beside(has_one)

    file.run(scenario, has_one)


def test_another_instance_finds_the_new_file_too(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        async def work(other: Store) -> None:
            await add(store)
            await has_one(other)
            shutil.rmtree(file.file.parent)
            await add(other)
            await has_one(store)
            await add(store)
            assert (await other.totals()).by_state[State.WAITING] == 2

        await file.beside(work)

    file.run(scenario)


def test_the_space_of_removed_jobs_goes_back(file: FilePlace) -> None:
    async def scenario(store: Store) -> None:
        for number in range(8):
            status, _ = await store.add(new_job(number, body=b"x" * 1_000_000))
            await store.cancel(status.id)
        assert file.file.stat().st_size > 1_000_000
        await store.sweep()

    file.run(scenario)
    assert file.file.stat().st_size < 200_000


def test_a_store_that_is_closed_says_so(file: FilePlace) -> None:
    async def scenario() -> None:
        store = file.store()
        await store.open()
        await store.close()
        with pytest.raises(StoreError, match="is closed"):
            await add(store)

    asyncio.run(scenario())
