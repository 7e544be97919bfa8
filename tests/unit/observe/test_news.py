"""What an instance tells the others, and to whom it leaves its history."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from slowpool.config import Config, Instance, Pool
from slowpool.observe.events import Events
from slowpool.observe.history import Step, step_number
from slowpool.observe.inherited import Inherited
from slowpool.observe.news import EVENTS_PATH, HISTORY_PATH, Messenger
from tests.support.basics import free_ports

pytestmark = pytest.mark.usefixtures("nothing_set")

READY = "/-/readyz"
OK, REFUSED = "204 No Content", "503 Service Unavailable"


@dataclass
class StandIn:
    """In place of another instance: answers each path with a status, and keeps what is posted."""

    port: int
    statuses: dict[str, str] = field(default_factory=dict)
    waits_for: asyncio.Event | None = None  # before it says that it is ready
    posted: list[tuple[str, str]] = field(default_factory=list)
    on_post: Callable[[], None] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        length = int(head.partition("Content-Length: ")[2].split("\r\n")[0])
        body = (await reader.readexactly(length)).decode()
        if method == "POST":
            assert "\r\nContent-Type: application/json\r\n" in head
            self.posted.append((path, body))
            self.on_post()
        elif path == READY and self.waits_for:
            await self.waits_for.wait()
        if status := self.statuses.get(path, OK):
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            await reader.read()  # no answer
        writer.close()

    def histories(self) -> int:
        return len([path for path, _ in self.posted if path == HISTORY_PATH])


Scenario = Callable[[Messenger, Events, list[StandIn]], Awaitable[None]]


def with_peers(scenario: Scenario, count: int = 2) -> None:
    """The scenario of one fast instance and stand-ins for the others of its pool."""

    async def main() -> None:
        first = free_ports(count + 1)
        config = Config(fast_processes=count + 1, slow_processes=1, fast_port=first, slow_port=free_ports())
        async with AsyncExitStack() as servers:
            peers = [StandIn(first + 1 + number) for number in range(count)]
            for peer in peers:
                server = await asyncio.start_server(peer.serve, "127.0.0.1", peer.port)
                await servers.enter_async_context(server)
            events = Events(f"fast:{first}")
            messenger = Messenger(config, Instance(Pool.FAST, first), events)
            messenger.start()
            await scenario(messenger, events, peers)

    asyncio.run(main())


def history() -> Inherited:
    return Inherited(processes={"0" * 16: step_number()}, steps={step_number(): Step(requests=7)})


def test_an_event_goes_to_all_and_many_go_together() -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        for number in range(30):
            events.add("act", str(number))
        await asyncio.sleep(0)
        for number in range(30, 60):
            events.add("act", str(number))
        await messenger.close(history)
        for peer in peers:
            told = [json.loads(body) for path, body in peer.posted if path == EVENTS_PATH]
            assert [event["text"] for batch in told for event in batch] == [str(n) for n in range(60)]
            assert len(told) <= 3

    with_peers(scenario)


def test_the_history_goes_to_one_of_those_that_are_ready() -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        peers[0].statuses[READY] = REFUSED
        await messenger.close(history)
        assert [peer.histories() for peer in peers] in ([0, 1, 0], [0, 0, 1])
        ((_, body),) = [post for peer in peers for post in peer.posted if post[0] == HISTORY_PATH]
        assert Inherited.model_validate_json(body) == history()

    with_peers(scenario, 3)


def test_one_that_does_not_take_the_history_is_not_the_last_that_is_asked() -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        refuses, takes = peers
        refuses.statuses[HISTORY_PATH] = REFUSED
        takes.waits_for = asyncio.Event()
        refuses.on_post = takes.waits_for.set
        await messenger.close(history)
        assert (refuses.histories(), takes.histories()) == (1, 1)

    with_peers(scenario)


def test_where_one_may_have_taken_the_history_no_other_gets_it() -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        silent, other = peers
        silent.statuses[HISTORY_PATH] = ""
        other.waits_for = asyncio.Event()
        silent.on_post = other.waits_for.set
        await messenger.close(history)
        assert (silent.histories(), other.histories()) == (1, 0)

    with_peers(scenario)


def test_where_nobody_answers_it_comes_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        for peer in peers:
            peer.statuses = {READY: "", EVENTS_PATH: "", HISTORY_PATH: ""}
        events.add("act", "x")
        await messenger.close(history)
        assert [peer.histories() for peer in peers] == [0, 0]
        assert not caplog.messages

    with_peers(scenario)


def test_without_others_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        await messenger.close(history)
        assert not caplog.messages

    with_peers(scenario, 0)
