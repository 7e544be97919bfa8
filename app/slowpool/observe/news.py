"""News between instances: their events, digests of their settings, and at the end their history."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from slowpool.config import Config, Instance
from slowpool.observe.digests import differing, digests
from slowpool.observe.events import MOST, Event, Events, ShortText, make_event
from slowpool.observe.inherited import Inherited
from slowpool.observe.peers import ANSWER_SECONDS, Peer, Peers
from slowpool.observe.untrusted import Seconds

log = logging.getLogger("slowpool")

EVENTS_PATH = "/-/events"
HISTORY_PATH = "/-/history"

PAUSE_SECONDS = 0.5
"""Between two POSTs to the same instance; events that come meanwhile go together."""

ASKED = 4
"""How many of the others an instance asks at its start."""

TRIES = 5
"""How often it asks, a second apart, until an instance has answered."""

CLOSE_SECONDS = 1.5
"""How much longer a drain may take for the others."""

EVENTS: TypeAdapter[list[Event]] = TypeAdapter(Annotated[list[Event], Field(max_length=MOST)])
"""The body of a POST of events."""


class News(BaseModel):
    """The answer to a GET of the events: the events, and the instance's name, age and digests of settings."""

    model_config = ConfigDict(strict=True)

    instance: ShortText
    age_seconds: Seconds
    events: Annotated[list[Event], Field(max_length=MOST)]
    settings: Annotated[
        dict[
            Annotated[str, Field(pattern="^[A-Z0-9_]{1,60}$")],
            Annotated[str, Field(pattern="^[0-9a-f]{8}$")],
        ],
        Field(max_length=300),
    ]


class Messenger:
    """Tells the other instances the events of this one at once, and asks them for theirs when it starts.

    All of it is best effort, and costs nothing while nothing happens. ``started_at`` is in Unix seconds.
    """

    def __init__(self, config: Config, own: Instance, events: Events, started_at: float) -> None:
        self._started_at = started_at
        self._settings = digests(config)
        self._peers = Peers(config, own)
        self._pool = own.pool
        self._events = events
        self._untold: list[Event] = []
        self._telling: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Begin, unless the others do not know this instance."""
        if self._peers.is_member:
            self._events.on_add = self._tell
            self._asking = asyncio.create_task(self._ask())

    async def close(self, history: Callable[[], Inherited]) -> None:
        """Tell what is untold, and leave the history to another instance of the pool, within CLOSE_SECONDS.

        Call it when the last request is answered.
        """
        if self._asking is None:
            return
        self._closing.set()
        self._asking.cancel()
        last = [self._leave(history), *([self._telling] if self._telling else [])]
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for error in await asyncio.gather(*last, return_exceptions=True):
                    if error:
                        log.error("cannot tell the other instances everything", exc_info=error)
        except TimeoutError:
            pass
        finally:
            self._peers.close()

    def _tell(self, event: Event) -> None:
        self._untold.append(event)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        while self._untold:
            batch, self._untold = self._untold[-MOST:], []
            await _tell(self._peers, batch)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PAUSE_SECONDS)

    async def _ask(self) -> None:
        for _ in range(TRIES):
            # Before the others tell their ages: of two that start together, at least one is the younger.
            age_seconds = time.time() - self._started_at
            await self._peers.find()
            if news := await ask(self._peers, self._peers.others(), ASKED):
                break
            await asyncio.sleep(ANSWER_SECONDS)
        else:
            return
        for one in news:
            self._events.merge(one.events)
        for one in news:
            names = differing(self._settings, one.settings)
            if names and age_seconds < one.age_seconds:  # the younger of the two says it
                self._events.add("settings", f"other values than {one.instance} has: {', '.join(names)}")
                break

    async def _leave(self, history: Callable[[], Inherited]) -> None:
        """Give the history to the instance of the pool that is the first to say that it is ready."""
        await self._peers.find()
        mates = [peer for peer in self._peers.others() if peer.pool is self._pool]
        asks = [asyncio.create_task(self._ready(mate)) for mate in mates]
        try:
            for answer in asyncio.as_completed(asks):
                mate = await answer
                if mate and await self._takes(mate, history().model_dump_json()):
                    return
        finally:
            for one in asks:
                one.cancel()

    async def _takes(self, mate: Peer, history: str) -> bool:
        """Whether an instance has the history, or may have it: a second one would count it twice."""
        try:
            await self._peers.post(mate, HISTORY_PATH, history)
        except ConnectionRefusedError as error:
            log.info("%s:%d at %s does not take the history: %s", mate.pool, mate.port, mate.address, error)
            return False
        except OSError:
            pass
        return True

    async def _ready(self, peer: Peer) -> Peer | None:
        try:
            await self._peers.get(peer, "/-/readyz")
        except OSError:
            return None
        return peer


async def ask(peers: Peers, among: list[Peer], count: int) -> list[News]:
    """The news of some of these instances, of those that answer."""
    chosen = random.sample(among, min(count, len(among)))  # nosec B311  # only spreads the load
    answers = await asyncio.gather(*(_news_of(peers, peer) for peer in chosen))
    return [news for news in answers if news]


def tell(config: Config, kind: str, instance: str, text: str) -> None:
    """Tell all instances of an event, from a program that is none. Waits for the DNS, and never fails."""

    async def main() -> None:
        peers = Peers(config)
        try:
            await _tell(peers, [make_event(kind, instance, text)])
        finally:
            peers.close()

    try:
        asyncio.run(main())
    except Exception as error:
        log.info("cannot tell the instances of an event: %s", error)


async def _tell(peers: Peers, events: list[Event]) -> None:
    await peers.find()
    body = EVENTS.dump_json(events).decode()
    posts = (peers.post(peer, EVENTS_PATH, body) for peer in peers.others())
    for error in await asyncio.gather(*posts, return_exceptions=True):
        if error and not isinstance(error, OSError):
            log.error("cannot tell an instance of an event", exc_info=error)


async def _news_of(peers: Peers, peer: Peer) -> News | None:
    try:
        return News.model_validate_json(await peers.get(peer, EVENTS_PATH))
    except (OSError, ValidationError):
        return None
