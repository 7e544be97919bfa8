"""Routes for other instances, the watchdog and a rolling restart, which send events and a history."""

import time
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from slowpool.errors import BadArgument, ContentTooLarge, Draining
from slowpool.instance import State
from slowpool.observe.digests import digests
from slowpool.observe.inherited import Inherited
from slowpool.observe.news import EVENTS, EVENTS_PATH, HISTORY_PATH
from slowpool.observe.peers import MAX_BYTES
from slowpool.observe.untrusted import what_is_wrong
from slowpool.status.handlers import Handler

T = TypeVar("T")

HISTORY = TypeAdapter(Inherited)


class ToldHandler(Handler):
    """A handler that takes JSON from a peer; a page of a browser cannot send that type to another site."""

    def received(self, kind: TypeAdapter[T]) -> T:
        """The body. Raises BadArgument and ContentTooLarge."""
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise BadArgument("send it with the header Content-Type: application/json")
        if len(self.request.body) > MAX_BYTES:
            raise ContentTooLarge(f"send at most {MAX_BYTES} bytes")
        try:
            return kind.validate_json(self.request.body)
        except ValidationError as error:
            raise BadArgument(what_is_wrong(error)) from None

    def done(self) -> None:
        """Answer that it has been taken."""
        self.set_status(204)
        self.finish()


class EventsHandler(ToldHandler):
    """The events that this instance knows, with its settings as digests; a POST adds others."""

    def get(self) -> None:
        runtime = self.application.runtime
        self.set_header("Cache-Control", "no-store")
        self.finish(
            {
                "instance": runtime.name,
                "age_seconds": max(0.0, time.time() - runtime.started_at),
                "events": runtime.events.newest(),
                "settings": digests(runtime.config),
            }
        )

    def post(self) -> None:
        events = self.received(EVENTS)
        self.application.runtime.events.merge(events)
        self.done()


class HistoryHandler(ToldHandler):
    """Takes the history of an instance of this pool that has ended."""

    def post(self) -> None:
        runtime = self.application.runtime
        if runtime.state is not State.READY:
            raise Draining("this instance is not ready; send it to another one")
        try:
            runtime.inherited = runtime.inherited.plus(self.received(HISTORY))
        except ValidationError as error:
            raise BadArgument(what_is_wrong(error)) from None
        self.done()


routes = [(EVENTS_PATH, EventsHandler), (HISTORY_PATH, HistoryHandler)]
"""The system routes of this room."""
