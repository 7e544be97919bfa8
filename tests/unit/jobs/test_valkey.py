"""What is special about accepted jobs in a server."""

import asyncio
import logging
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from slowpool.errors import ConfigError
from slowpool.jobs import valkey
from slowpool.jobs.record import Answer, State
from slowpool.jobs.store import Store, StoreError
from slowpool.jobs.valkey import ValkeyStore
from tests.support.job_stores import BOUNDS, NO_VALKEY, VALKEY, ServerPlace, ValkeyServer, eventually, new_job

needs_valkey = pytest.mark.skipif(not VALKEY, reason=NO_VALKEY)


async def add(store: Store) -> None:
    """Add a job."""
    await store.add(new_job(1))


def test_jobs_are_there_after_the_server_was_killed_and_the_next_call_connects_again(
    server: ValkeyServer, tmp_path: Path
) -> None:
    async def scenario(store: Store) -> None:
        added = await asyncio.gather(*(store.add(new_job(number)) for number in range(20)))
        server.signal(signal.SIGKILL)
        server.wait()
        with pytest.raises(StoreError, match=rf"the server at 127.0.0.1:{server.port}: .*; see that it runs"):
            await add(store)
        with ValkeyServer(tmp_path / "data", port=server.port):
            taken = [await store.take("slow:8101") for _ in added]
            assert {lease.id for lease in taken if lease} == {status.id for status, _ in added}

    ServerPlace(server.port).run(scenario)


def test_the_next_call_works_when_the_server_has_restarted_between_two_calls(
    server: ValkeyServer, tmp_path: Path
) -> None:
    async def scenario(store: Store) -> None:
        added = await asyncio.gather(*(store.add(new_job(number)) for number in range(20)))
        server.signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait)  # the connections are seen to end
        with ValkeyServer(tmp_path / "data", port=server.port):
            for status, _ in added:
                assert await store.status(status.id) == status

    ServerPlace(server.port).run(scenario)


@needs_valkey
def test_a_store_can_be_used_once_its_server_has_come(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "data")
    server.signal(signal.SIGKILL)
    server.wait()

    async def scenario() -> None:
        store = ServerPlace(server.port).store()
        for call in (store.open, store.totals, store.sweep):
            with pytest.raises(StoreError, match=f"127.0.0.1:{server.port}"):
                await call()
        with ValkeyServer(tmp_path / "data", port=server.port):
            await add(store)
            await store.close()

    with ExitStack() as parts:
        parts.push(server)
        asyncio.run(scenario())


def test_the_script_is_sent_again_when_the_server_has_lost_it(server: ValkeyServer) -> None:
    async def scenario(store: Store) -> None:
        await add(store)
        assert server.ask("SCRIPT FLUSH") == b"+OK\r\n"
        await add(store)
        assert (await store.totals()).by_state[State.WAITING] == 2

    ServerPlace(server.port).run(scenario)


@needs_valkey
def test_a_wrong_password_is_said_and_never_written(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "data", "--requirepass", "right") as server:

        async def scenario(store: Store) -> None:
            await add(store)

        ServerPlace(server.port, user=":right@").run(scenario)
        for user in (":wr0ng@", ""):
            with pytest.raises(StoreError, match="check the user and the password in JOBS_URL") as found:
                ServerPlace(server.port, user=user).run(scenario)
            assert "wr0ng" not in str(found.value)


def test_a_replica_takes_no_jobs(server: ValkeyServer) -> None:
    async def scenario(store: Store) -> None:
        await add(store)
        assert server.ask("REPLICAOF 127.0.0.1 1") == b"+OK\r\n"
        with pytest.raises(StoreError, match="name the primary in JOBS_URL"):
            await add(store)
        assert server.ask("REPLICAOF NO ONE") == b"+OK\r\n"
        await add(store)

    ServerPlace(server.port).run(scenario)


def test_a_server_without_memory_refuses_jobs_and_keeps_those_that_are_there(server: ValkeyServer) -> None:
    async def scenario(store: Store) -> None:
        status, _ = await store.add(new_job(1))
        assert server.ask("CONFIG SET maxmemory 1") == b"+OK\r\n"
        with pytest.raises(StoreError, match="raise its maxmemory, or lower JOB_STORE_BYTES"):
            await add(store)
        assert await store.status(status.id) == status
        assert server.ask("CONFIG SET maxmemory 0") == b"+OK\r\n"
        await add(store)

    ServerPlace(server.port).run(scenario)


def test_a_server_that_hangs_is_given_up_and_used_again_afterwards(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "ANSWER_SECONDS", 0.2)

    async def works(store: Store) -> bool:
        try:
            return bool(await store.add(new_job(2)))
        except StoreError:
            return False

    async def scenario(store: Store) -> None:
        await add(store)
        server.signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match=f"127.0.0.1:{server.port}.*Timeout"):
            await add(store)
        server.signal(signal.SIGCONT)
        await eventually(lambda: works(store))

    ServerPlace(server.port).run(scenario)


@needs_valkey
def test_a_server_that_keeps_nothing_on_disk_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(tmp_path / "data", "--appendonly", "no") as server:
        with caplog.at_level(logging.WARNING, "slowpool"):
            ServerPlace(server.port).run(add)
        (record,) = caplog.records
        assert record.getMessage().endswith(f"127.0.0.1:{server.port} restarts: set appendonly yes there")


def test_nothing_is_left_of_jobs_that_are_forgotten(server: ValkeyServer) -> None:
    async def scenario(store: Store) -> None:
        for number in range(3):
            job = new_job(number, key=f"key {number}", digest="d")
            status, lease = await store.add(job, taken_by="slow:8101")
            assert lease
            await store.finish(status.id, lease.fence, Answer(200, [], b"x"), "error" if number else "")

        async def is_empty() -> bool:
            await store.sweep()
            return server.ask("DBSIZE") == b":2\r\n"  # the totals, and the last number

        await eventually(is_empty)
        assert (await store.totals()).by_state == dict.fromkeys(State, 0)

    ServerPlace(server.port).run(scenario, result_seconds=0.1)


@pytest.mark.parametrize("url", ["valkey://:pa/ss@host:6379/0", "valkey:///0", "valkey://host:port/0"])
def test_a_url_without_a_server_is_refused_and_its_password_is_not_written(url: str) -> None:
    with pytest.raises(ConfigError, match="JOBS_URL names no server: write valkey://") as found:
        ValkeyStore(url, BOUNDS)
    assert "ss@host" not in str(found.value)
