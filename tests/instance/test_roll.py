"""A pool is rolled: its instances restart one after the other. They serve in this process."""

import asyncio
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slowpool.config import Config, Pool
from slowpool.errors import CannotAct
from slowpool.instance import Runtime, State
from slowpool.status import act
from slowpool.status.act import Actions
from slowpool.status.overview import Overview
from tests.support.basics import free_ports
from tests.support.hosted import serving
from tests.support.process import APPS, app_environment


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
        async with serving(self.runtimes):
            watching = asyncio.create_task(self._restart_on())
            try:
                await scenario(Actions(self.config, lambda *event: self.told.append(event), own))
            finally:
                watching.cancel()

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


def test_a_roll_goes_on_only_while_its_whole_pool_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch)
    first, second, third = (f"fast:{rolled.first + number} at 127.0.0.1" for number in range(3))

    async def scenario(actions: Actions) -> None:
        _, rolling = await actions.roll(Pool.FAST, "ada")
        rolled.runtimes[2].state = State.STARTING
        assert not await rolling
        rolled.runtimes[2].state = State.READY
        assert rolled.restarted == [rolled.first]
        _, last = rolled.told[-1]
        assert last == (
            f"the restart of the fast pool has stopped: {third} was not ready again within 1.5 s; "
            f"its log says why; not touched: {second}, {third}"
        )
        _, rolling = await actions.roll(Pool.FAST, "ada")
        rolled.runtimes[2].state = State.STARTING
        while rolled.runtimes[0].heartbeat.wants_restart:
            await asyncio.sleep(0.02)
        rolled.runtimes[2].state = State.READY
        assert await rolling, "it has waited"

    asyncio.run(rolled.run(scenario))
    assert ("roll", f"{first} is ready again, 1 of 3") in rolled.told


def test_a_roll_that_fails_in_another_way_says_so_and_raises_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rolled = Rolled(tmp_path, monkeypatch)

    async def broken(overview: object) -> None:
        raise ZeroDivisionError

    async def scenario(actions: Actions) -> None:
        _, rolling = await actions.roll(Pool.FAST, "ada")
        monkeypatch.setattr(Overview, "look", broken)
        with pytest.raises(ZeroDivisionError):
            await rolling

    asyncio.run(rolled.run(scenario))
    _, last = rolled.told[-1]
    assert last.startswith("the restart of the fast pool has stopped: ZeroDivisionError; not touched: ")
    assert "Traceback" in caplog.text


def test_who_restarts_the_only_ready_instance_is_told_what_that_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch, count=2)
    name = f"fast:{rolled.first}"
    cost = "; no other instance of the fast pool is ready: requests get 503 until it is back"

    async def scenario(actions: Actions) -> None:
        assert await actions.find_instance(name, "") == f"{name} at 127.0.0.1"
        rolled.runtimes[1].state = State.STARTING
        assert await actions.find_instance(name, "") == f"{name} at 127.0.0.1{cost}"
        done = await actions.restart(name, "", "ada")
        assert done == f"{name} will be drained and started again, after any other of its replica{cost}"

    asyncio.run(rolled.run(scenario))
    alone = Rolled(tmp_path, monkeypatch, count=1)

    async def roll(actions: Actions) -> None:
        assert await actions.find_pool(Pool.FAST) == f"the one instance of the fast pool{cost}"
        text, rolling = await actions.roll(Pool.FAST, "ada")
        assert text == f"restarts the one instance of the fast pool{cost}"
        assert await rolling

    asyncio.run(alone.run(roll))


def test_a_roll_from_a_terminal_is_printed_and_known_to_every_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch, count=2)

    async def scenario(_: object) -> None:
        process = await slowpool_roll(rolled)
        printed, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
        lines = printed.decode().splitlines()
        assert lines[-1].endswith("is ready again, 2 of 2")
        assert [told_to(runtime) for runtime in rolled.runtimes] == [lines, lines]

    asyncio.run(rolled.run(scenario))


def test_a_roll_that_is_interrupted_in_a_terminal_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = Rolled(tmp_path, monkeypatch, count=2)
    rolled.stop_at = rolled.first

    async def scenario(_: object) -> None:
        process = await slowpool_roll(rolled)
        assert process.stdout
        first = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
        assert process.returncode == 130
        lines = (first + rest).decode().splitlines()
        assert lines[-1] == (
            "the restart of the fast pool has stopped: it was interrupted; "
            f"not touched: fast:{rolled.first + 1} at 127.0.0.1"
        )
        assert sorted(told_to(rolled.runtimes[1])) == sorted(lines)

    asyncio.run(rolled.run(scenario))


async def slowpool_roll(rolled: Rolled) -> Process:
    """``slowpool roll fast --yes`` from elsewhere."""
    config = rolled.config
    places = ("fast_port", "fast_processes", "slow_port", "slow_processes")
    env = app_environment(APPS, {name.upper(): getattr(config, name) for name in places})
    command = [sys.executable, "-m", "slowpool", "roll", "fast", "--yes"]
    return await asyncio.create_subprocess_exec(*command, cwd=APPS, env=env, stdout=PIPE, stderr=PIPE)


def told_to(runtime: Runtime) -> list[str]:
    """The rolls among the events that an instance knows."""
    return [event["text"] for event in reversed(runtime.events.newest()) if event["kind"] == "roll"]
