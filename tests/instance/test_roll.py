"""A pool is rolled: its instances restart one after the other. They serve in this process."""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from slowpool.config import Config, Pool
from slowpool.errors import CannotAct
from slowpool.instance import Runtime, State
from slowpool.status import act
from slowpool.status.act import Actions
from tests.support.basics import free_ports
from tests.support.hosted import hosted


class Rolled:
    """Fast instances in this process. ``stop_at`` is one that does not come back when it is restarted."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 3, stop_at: int = 0
    ) -> None:
        monkeypatch.setenv("SLOWPOOL_RUN_DIR", str(folder))
        self.first = free_ports(count)
        self.config = Config(
            fast_processes=count, fast_port=self.first, slow_processes=1, slow_port=free_ports()
        )
        monkeypatch.setattr(act, "START_SECONDS", 1.5 - self.config.stop_wait_seconds)
        self.stop_at = 0
        self.runtimes = [Runtime(self.config, one) for one in self.config.instances(Pool.FAST)]
        self.restarted: list[int] = []
        self.told: list[tuple[str, str]] = []

    async def run(self, scenario: Callable[[Actions], Awaitable[None]], own: str = "") -> None:
        servers = []
        for runtime in self.runtimes:
            server = HTTPServer(hosted(runtime))
            server.add_sockets(bind_sockets(runtime.instance.port, "127.0.0.1", family=socket.AF_INET))
            servers.append(server)
        watching = asyncio.create_task(self._restart_on())
        try:
            await scenario(Actions(self.config, lambda *event: self.told.append(event), own))
        finally:
            watching.cancel()
            for server in servers:
                server.stop()
                await server.close_all_connections()

    async def _restart_on(self) -> None:
        """What the watchdog does: one after the other."""
        while True:
            await asyncio.sleep(0.02)
            wanted = [one for one in self.runtimes if one.heartbeat.wants_restart]
            assert len(wanted) <= 1, "two at the same time"
            for runtime in wanted:
                port = runtime.instance.port
                if port not in self.restarted:
                    self.restarted.append(port)
                if port != self.stop_at:
                    runtime.state = State.STARTING
                    await asyncio.sleep(0.3)
                    runtime.started_at, runtime.state = time.time(), State.READY
                    runtime.heartbeat.wants_restart = False


def test_a_pool_is_rolled_one_after_the_other_with_the_own_instance_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch)
    first = rolled.first

    async def scenario(actions: Actions) -> None:
        text, rolling = await actions.roll(Pool.FAST, "ada")
        assert text == "restarts the 3 instances of the fast pool one at a time"
        with pytest.raises(CannotAct, match="a roll is under way here"):
            await actions.roll(Pool.FAST, "bob")
        with pytest.raises(CannotAct, match="a roll is under way here"):
            await actions.roll(Pool.SLOW, "bob")
        assert await rolling
        await asyncio.sleep(0.1)

    asyncio.run(rolled.run(scenario, own=f"fast:{first}"))
    assert rolled.restarted == [first + 1, first + 2, first]
    kinds, texts = zip(*rolled.told, strict=True)
    assert set(kinds) == {"roll"}
    assert texts[0].startswith("the fast pool is restarted for ada: ")
    assert texts[1:] == (
        f"fast:{first + 1} at 127.0.0.1 is ready again, 1 of 3",
        f"fast:{first + 2} at 127.0.0.1 is ready again, 2 of 3",
        f"fast:{first} at 127.0.0.1 restarts, the last of the fast pool",
    )


def test_a_roll_stops_at_an_instance_that_does_not_come_back_and_names_the_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch)
    rolled.stop_at = second = rolled.first + 1

    async def scenario(actions: Actions) -> None:
        _, rolling = await actions.roll(Pool.FAST, "ada")
        assert not await rolling
        with pytest.raises(CannotAct, match=f"fast:{second} is about to stop already"):
            await actions.restart(f"fast:{second}", "", "ada")

    asyncio.run(rolled.run(scenario))
    assert rolled.restarted == [rolled.first, second]
    _, last = rolled.told[-1]
    assert re.fullmatch(
        f"the restart of the fast pool has stopped: fast:{second} at 127.0.0.1 was not ready again within "
        f"1.5 s; its log says why; not touched: fast:{second + 1} at 127.0.0.1",
        last,
    )


def test_a_pool_with_an_instance_that_is_not_ready_is_not_rolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch, count=2)

    async def scenario(actions: Actions) -> None:
        rolled.runtimes[1].state = State.DRAINING
        with pytest.raises(
            CannotAct, match=f"fast:{rolled.first + 1} at 127.0.0.1 is not ready, but draining"
        ):
            await actions.roll(Pool.FAST, "ada")
        with pytest.raises(CannotAct, match="is not ready, but no answer"):
            await actions.roll(Pool.SLOW, "ada")
        rolled.runtimes[1].state = State.READY
        _, rolling = await actions.roll(Pool.FAST, "ada")
        assert await rolling

    asyncio.run(rolled.run(scenario))
