"""LoopWatch: how late the event loop is, and which handler made it late."""

import asyncio
import logging
import os
import selectors
import sys
import sysconfig
import threading
import time
import traceback
from dataclasses import dataclass
from types import FrameType

from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from slowpool.linux.scheduling import RunDelay
from slowpool.observe.events import Events
from slowpool.observe.heartbeat import Heartbeat
from slowpool.observe.learned import LearnedRoutes
from slowpool.observe.metrics import Metrics

log = logging.getLogger("slowpool.loop")

BEAT_SECONDS = 0.05
"""How often the loop is due to run the watch's callback; a shorter block can go unseen."""

LOGGED_ALREADY_AFTER_SECONDS = 5.0
"""A block that lasts longer is logged before it has ended, since it may end with a kill."""


@dataclass
class Block:
    """A block that has not ended: its route, the line and the stack of the loop's thread, innermost last."""

    due: float  # when the late beat was due, on the monotonic clock
    route: str
    is_websocket: bool  # it stays where it is
    line: str
    stack: str
    logged: bool = False


class LoopWatch:
    """Watches the event loop that it is made in.

    The loop runs a callback at a fixed interval, its beat. A thread checks whether a beat is more than
    ``budget_seconds`` late, and if so takes the stack of the loop's thread. With a budget of 0 there is no
    such thread. A route that blocks is added to ``learned``, which is an event if it was not there. The time
    in which the loop waited for a CPU does not count, or a busy machine would make every route slow.
    """

    def __init__(
        self,
        metrics: Metrics,
        learned: LearnedRoutes,
        events: Events,
        heartbeat: Heartbeat,
        budget_seconds: float,
    ) -> None:
        self._metrics = metrics
        self._learned = learned
        self._events = events
        self._heartbeat = heartbeat
        self._budget_seconds = budget_seconds
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._run_delay = RunDelay(threading.get_native_id())
        self._run_delay_seconds = 0.0  # at the last beat
        self._block: Block | None = None
        self._stopped = threading.Event()
        self._heartbeat.beat()  # before a request can block
        self._due = time.monotonic()  # uvloop's own time can be that of the last turn
        self._timer = self._loop.call_later(0, self._beat)
        if budget_seconds:
            threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._timer.cancel()

    def _beat(self) -> None:
        self._heartbeat.beat()
        now = time.monotonic()
        late_seconds = max(0.0, now - self._due)
        self._metrics.sample(late_seconds)
        if self._budget_seconds:
            self._end_block(late_seconds)
        self._due = now + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _end_block(self, late_seconds: float) -> None:
        waited_seconds = self._waited_seconds()
        self._run_delay_seconds += waited_seconds
        block, self._block = self._block, None
        blocked_seconds = late_seconds - waited_seconds
        if block and blocked_seconds > self._budget_seconds:
            self._metrics.blocked(block.route, blocked_seconds)
            known = block.route in self._learned
            learned = not block.is_websocket and self._learned.add(block.route, blocked_seconds, block.line)
            if learned and not known:
                self._events.add(
                    "learned",
                    f"{block.route} blocked for {blocked_seconds:.2f} s, at {block.line}; "
                    "it goes to the slow pool for now",
                )
            what = f"blocked its instance for {blocked_seconds:.2f} s"
            _log(block, f"{what} and goes to the slow pool for now" if learned else what, blocked_seconds)

    def _waited_seconds(self) -> float:
        """How long the loop has waited for a CPU since the last beat."""
        return self._run_delay.seconds() - self._run_delay_seconds

    def _watch(self) -> None:
        """In the thread."""
        while not self._stopped.wait(min(self._budget_seconds, 1) / 4):
            due, block = self._due, self._block
            late_seconds = time.monotonic() - due
            if (
                late_seconds <= self._budget_seconds
                or late_seconds - self._waited_seconds() <= self._budget_seconds
            ):
                continue
            if block is None or block.due != due:
                frame = sys._current_frames().get(self._thread_id)
                if frame is None or is_idle(frame):
                    continue  # the process did not run: there was no CPU for it, or it was stopped
                found = Block(due, *_handler(frame))
                if self._due == due:  # still the same block
                    self._block = found
            elif late_seconds > LOGGED_ALREADY_AFTER_SECONDS and not block.logged:
                block.logged = True
                _log(block, f"has blocked its instance for {late_seconds:.2f} s so far", late_seconds)


def is_idle(innermost: FrameType) -> bool:
    """Whether the loop waits for something to do: asyncio's in a selector, uvloop's in C."""
    frame = innermost.f_back if innermost.f_code is _SELECT.__code__ else innermost
    return frame is not None and frame.f_globals.get("__name__") in _LOOP


_SELECT = selectors.DefaultSelector.select
_LOOP = {"asyncio.base_events", "asyncio.runners"}
"""The modules that run a loop; what the loop runs has a frame further in."""


def _log(block: Block, what: str, seconds: float) -> None:
    log.warning(
        "%s %s, at %s; `await slowpool.run(function, ...)` makes slow work a job. The stack:\n%s",
        block.route or "something other than a handler",
        what,
        block.line,
        block.stack.rstrip(),
        extra={"route": block.route, "seconds": round(seconds, 3)},
    )


def _handler(innermost: FrameType) -> tuple[str, bool, str, str]:
    """What Block has of the handler that runs in this stack, and of the stack from there on.

    The line is the innermost one outside the libraries. Without a handler, the route is empty and the stack
    is whole.
    """
    frame: FrameType | None = innermost
    depth, handler, handler_depth = 0, None, None
    while frame:
        if isinstance(found := frame.f_locals.get("self"), RequestHandler):
            handler = found
            # Tornado's own frame says nothing.
            handler_depth = depth if frame.f_code is RequestHandler._execute.__code__ else depth + 1
        frame, depth = frame.f_back, depth + 1
    # An application may have a server of its own, whose connection has no route.
    route = getattr(handler.request.connection, "route", None) or "" if handler else ""
    is_websocket = isinstance(handler, WebSocketHandler)
    return (
        route,
        is_websocket,
        _line(innermost),
        "".join(traceback.format_stack(innermost, limit=handler_depth)),
    )


def _line(innermost: FrameType) -> str:
    """Such as ``shop/reports.py:12, in build``."""
    frame: FrameType | None = innermost
    while frame and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    code = (frame or innermost).f_code
    name = os.path.relpath(code.co_filename)
    return f"{name}:{(frame or innermost).f_lineno}, in {code.co_name}"


_LIBRARIES = (*{sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")}, "<frozen ")
