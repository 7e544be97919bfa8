"""Events: the last things that happened in the deployment, of which each instance keeps a copy."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from slowpool.observe.untrusted import MAX_TEXT, Text

MOST = 100
"""How many events are kept."""

AHEAD_SECONDS = 300.0
"""How far the clock of another machine may be ahead of this one's."""

ShortText = Annotated[Text, AfterValidator(lambda text: text[:MAX_TEXT])]
"""Escaping makes a text longer, and the next receiver takes no longer one."""


class Event(BaseModel):
    """One event: ``at`` is in Unix seconds, ``instance`` the one that it is about, empty for none.

    ``kind`` is a word such as ``ready``, ``drain``, ``restart``, ``roll``, ``hang``, ``exit``, ``memory``,
    ``learned``, ``full``, ``settings`` or ``act``; a newer release may have others.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    at: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
    kind: Annotated[str, Field(pattern="^[a-z]{1,20}$")]
    instance: ShortText
    text: ShortText


class Events:
    """The last events, each once. ``version`` changes whenever they do."""

    def __init__(self, instance: str = "") -> None:
        self.version = 0
        self.on_add: Callable[[Event], None] = lambda event: None  # called with each event of this instance
        self._instance = instance
        self._events: dict[str, Event] = {}  # by id, the oldest first

    def add(self, kind: str, text: str) -> None:
        """Add an event of this instance."""
        event = make_event(kind, self._instance, text)
        self.merge([event])
        self.on_add(event)

    def merge(self, events: Iterable[Event]) -> None:
        """Add the events of another instance that are not known yet."""
        now = time.time()  # a clock that is far ahead must not keep its events above all others
        new = {
            event.id: event if event.at <= now + AHEAD_SECONDS else event.model_copy(update={"at": now})
            for event in events
            if event.id not in self._events
        }
        if not new:
            return
        known = sorted({**self._events, **new}.values(), key=lambda event: (event.at, event.id))[-MOST:]
        before, self._events = self._events.keys(), {event.id: event for event in known}
        self.version += before != self._events.keys()

    def newest(self) -> list[dict[str, Any]]:
        """The events as JSON, the newest first."""
        return [event.model_dump() for event in reversed(self._events.values())]


def make_event(kind: str, instance: str, text: str) -> Event:
    """An event of now."""
    return Event(
        id=secrets.token_hex(8),
        at=time.time(),
        kind=kind,
        instance=instance[:MAX_TEXT],
        text=text[:MAX_TEXT],
    )
