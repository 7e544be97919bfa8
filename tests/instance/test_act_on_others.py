"""An operator acts on instances that lie, drain, fail or stop."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Config, Pool
from slowpool.errors import CannotAccept, NoAnswer, NotFound, RequestError
from slowpool.instance import Runtime
from slowpool.status.act import Actions
from slowpool.status.report import MAX_BYTES
from tests.support.acting import HEADERS, Deployment, act, own
from tests.support.basics import free_ports, wait_until
from tests.support.client import request
from tests.support.gate import Gate
from tests.support.hosted import serving
from tests.support.liars import served
from tests.support.process import Instance
from tests.support.report import report_of
from tests.support.watching import texts


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (b"200 OK", rb'{"text": "done\u001b[2J"}', r"done\x1b[2J"),
        (b"200 OK", b"[1]", "does not say what it has done"),
        (b"200 OK", b'{"text": 7}', "does not say what it has done"),
        (b"200 OK", b"\xff", "does not say what it has done"),
        (b"200 OK", b"[" * 100_000, "does not say what it has done"),
        (b"500 Bad\x9b", b"no", r"answers 500: Bad\x9b"),
        (b"409 Conflict", rb'{"detail": "\u202e"}', r"\u202e"),
        (b"200 OK", b"x" * (MAX_BYTES + 1), "does not answer: "),
        (b"nothing", b"", "does not answer: "),
    ],
)
def test_whatever_another_instance_answers_is_shown_as_text(status: bytes, body: bytes, shown: str) -> None:
    port = free_ports()
    config = Config(fast_processes=1, slow_processes=1, fast_port=port, slow_port=free_ports())

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()

    async def said() -> str:
        try:
            return await Actions(config, print).restart(f"fast:{port}", "", "ada")
        except RequestError as error:
            return str(error)

    with served(lie, port):
        text = asyncio.run(said())
    assert shown in text
    assert text.isprintable()


def test_an_instance_cannot_send_an_action_on_to_another_one() -> None:
    port = free_ports()
    asked: list[str] = []
    config = Config(fast_processes=1, slow_processes=1, fast_port=port, slow_port=free_ports())

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" HTTP/")[0].decode())
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /-/act/cancel?job=0\r\n")
        writer.write(b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    with served(redirect, port), pytest.raises(NoAnswer, match="answers 307"):
        asyncio.run(Actions(config, print).restart(f"fast:{port}", "", "ada"))
    assert asked == ["GET /-/status/instance", "POST /-/act/restart"]


def test_an_instance_that_drains_is_named_where_a_job_is_not_found_and_is_not_restarted(
    tmp_path: Path, gate: Gate, background: ThreadPoolExecutor
) -> None:
    two = Deployment(tmp_path)
    with two.fast, two.slow:
        name = f"slow:{two.slow.port} at 127.0.0.1"
        answer = background.submit(request, two.slow.port, gate("/slow/report"))
        gate.wait_for(1)
        (job,) = two.running()
        two.slow.terminate()
        wait_until(lambda: not listens(two.slow.port))
        stack = request(two.fast.port, f"/-/status/stack?job={job['job']}", headers=HEADERS)
        for missed in (two.act(action="cancel", job=job["job"]), stack):
            assert missed.status == 404
            told = missed.problem()["detail"]
            assert told.endswith(f"; no answer from {name}: if it drains, its jobs cannot be reached")
        done = two.act(action="restart", instance=f"slow:{two.slow.port}", address="")
        assert done.status == 409
        assert done.problem()["detail"].startswith(f"{name} accepts no connections: it drains, starts or ")
        gate.open()
        assert answer.result().status == 201


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class Store:
    """The accepted jobs of an instance: what comes of cancelling one, and how often it was asked to."""

    def __init__(self, outcome: str | RequestError) -> None:
        self.outcome = outcome
        self.asked = 0

    async def accept(self, exchange: Any) -> None:
        raise NotImplementedError

    async def cancel_for_operator(self, job_id: str) -> str:
        self.asked += 1
        if isinstance(self.outcome, RequestError):
            raise self.outcome
        return self.outcome


FAILS, MISSES = CannotAccept("the store does not answer", 5), NotFound("no job")


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([FAILS, MISSES, "f" * 32], "job ffffffffffffffffffffffffffffffff was cancelled at slow:{}"),
        ([MISSES, FAILS, MISSES], "slow:{} at 127.0.0.1 answers 503: the store does not answer"),
        ([MISSES, MISSES, MISSES], "no job is known by this id, beginning of an id or request id"),
    ],
)
def test_an_accepted_job_is_looked_for_in_every_slow_instance_and_in_no_other(
    outcomes: list[str | RequestError], found: str
) -> None:
    config = Config(fast_processes=1, slow_processes=3, fast_port=free_ports(), slow_port=free_ports(3))
    runtimes = [Runtime(config, one) for pool in (Pool.FAST, Pool.SLOW) for one in config.instances(pool)]
    stores = [Store("none of a fast instance"), *map(Store, outcomes)]
    for runtime, store in zip(runtimes, stores, strict=True):
        runtime.acceptor = store

    async def cancel() -> str:
        async with serving(runtimes):
            try:
                return await Actions(config, print).cancel("f" * 32, "ada")
            except (NoAnswer, NotFound) as error:
                return str(error)

    told = asyncio.run(cancel())
    numbers = [number for number, outcome in enumerate(outcomes) if outcome is not MISSES]
    assert told == found.format(config.slow_port + numbers[-1] if numbers else "")
    assert [store.asked for store in stores] == [0, 1, 1, 1]


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run directory of a supervisor that does nothing."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("SLOWPOOL_RUN_DIR", str(folder))
    return folder


@pytest.fixture
def fast_ones(supervised: Path) -> Iterator[list[Instance]]:
    """The two instances of a fast pool, which nobody restarts."""
    settings: dict[str, Any] = {"FAST_PORT": free_ports(2), "FAST_PROCESSES": 2, "SLOW_PORT": free_ports()}
    with (
        Instance(Pool.FAST, port=settings["FAST_PORT"], **settings) as first,
        Instance(Pool.FAST, port=settings["FAST_PORT"] + 1, **settings) as second,
    ):
        yield [first, second]


def test_a_pool_with_an_instance_that_waits_for_its_restart_is_not_rolled(fast_ones: list[Instance]) -> None:
    first, second = fast_ones
    done = act(first, action="restart", instance=f"fast:{second.port}", address="")
    assert done.json() == {
        "text": f"fast:{second.port} will be drained and started again, after any other of its replica"
    }
    assert report_of(second)["state"] == "draining"
    for instance in fast_ones:
        refused = act(instance, action="roll", pool="fast")
        assert refused.status == 409
        assert f"fast:{second.port} at 127.0.0.1 is not ready, but draining" in refused.problem()["detail"]
    again = act(first, action="restart", instance=f"fast:{second.port}", address="")
    assert again.problem()["detail"] == f"fast:{second.port} is about to stop already"


def test_a_roll_ends_with_the_instance_that_does_it_and_others_know(fast_ones: list[Instance]) -> None:
    first, second = fast_ones
    assert act(first, action="roll", pool="fast").status == 202
    first.terminate()
    first.wait()
    last, *_ = texts(second.port, "roll")
    assert last == (
        f"roll fast:{first.port}: the restart of the fast pool has stopped: this instance stops; "
        f"not touched: fast:{first.port} at 127.0.0.1"
    )


def test_an_instance_that_cannot_reach_the_watchdog_says_so_and_goes_on(supervised: Path) -> None:
    supervised.rmdir()
    with Instance(Pool.FAST, expected="the watchdog cannot see") as alone:
        for _ in range(2):
            done = own(alone, "restart")
            assert done.status == 409
            assert "cannot reach the watchdog" in done.problem()["detail"]
        assert report_of(alone)["state"] == "ready"
