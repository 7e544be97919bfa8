"""What an instance tells the others, and to whom it leaves its history."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from slowpool.config import Config, Instance, Pool
from slowpool.observe.events import Events, make_event
from slowpool.observe.history import Step
from slowpool.observe.inherited import Inherited
from slowpool.observe.news import EVENTS_PATH, HISTORY_PATH, Messenger
from tests.support.basics import free_ports

pytestmark = pytest.mark.usefixtures("nothing_set")

READY = "/-/readyz"
OK, REFUSED = "204 No Content", "503 Service Unavailable"

LEFT = Inherited(processes={"0" * 16: 7}, steps={7: Step(requests=7)})


@dataclass
class StandIn:
    """In place of another instance: answers each path with a status, and keeps what is posted."""

    port: int
    statuses: dict[str, str] = field(default_factory=dict)
    news: str = ""  # its events, as JSON
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
            answer = self.news if path == EVENTS_PATH else ""
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
        else:
            await reader.read()  # no answer
        writer.close()

    def histories(self) -> int:
        return len([path for path, _ in self.posted if path == HISTORY_PATH])


Scenario = Callable[[Messenger, Events, list[StandIn]], Awaitable[None]]


def with_peers(scenario: Scenario, count: int = 2, age_seconds: float = 0) -> None:
    """The scenario of one fast instance of this age and stand-ins for the others of its pool."""

    async def main() -> None:
        first = free_ports(count + 1)
        config = Config(fast_processes=count + 1, slow_processes=1, fast_port=first, slow_port=free_ports())
        async with AsyncExitStack() as servers:
            peers = [StandIn(first + 1 + number) for number in range(count)]
            for peer in peers:
                server = await asyncio.start_server(peer.serve, "127.0.0.1", peer.port)
                await servers.enter_async_context(server)
            events = Events(f"fast:{first}")
            started_at = time.time() - age_seconds
            messenger = Messenger(config, Instance(Pool.FAST, first), events, started_at)
            messenger.start()
            await scenario(messenger, events, peers)

    asyncio.run(main())


def history() -> Inherited:
    return LEFT


@pytest.mark.parametrize(("age_seconds", "kinds"), [(50.0, {"ready"}), (200.0, {"ready", "settings"})])
def test_of_two_with_other_settings_the_younger_says_so(age_seconds: float, kinds: set[str]) -> None:
    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        told = [make_event("ready", "fast:1", "is ready").model_dump()]
        news = {"instance": "fast:1", "age_seconds": age_seconds, "events": told}
        peers[0].news = json.dumps({**news, "settings": {"SLOW_QUEUE": "00000000"}})
        while not events.newest():
            await asyncio.sleep(0.01)
        assert {event["kind"] for event in events.newest()} == kinds
        await messenger.close(history)

    with_peers(scenario, age_seconds=100)


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
        assert Inherited.model_validate_json(body) == LEFT

    with_peers(scenario, 3)


def test_one_that_does_not_take_the_history_is_logged_and_not_the_last_that_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "slowpool")

    async def scenario(messenger: Messenger, events: Events, peers: list[StandIn]) -> None:
        refuses, takes = peers
        refuses.statuses[HISTORY_PATH] = REFUSED
        takes.waits_for = asyncio.Event()
        refuses.on_post = takes.waits_for.set
        await messenger.close(history)
        assert (refuses.histories(), takes.histories()) == (1, 1)
        at = f"fast:{refuses.port} at 127.0.0.1"
        assert caplog.messages == [f"{at} does not take the history: HTTP/1.1 {REFUSED}"]

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
