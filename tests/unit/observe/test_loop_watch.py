"""When an event loop waits for something to do, whichever loop it is."""

import asyncio
import importlib
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from slowpool.observe.loop_watch import is_idle
from tests.support.basics import wait_until


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread named ``loop``."""
    try:
        new_event_loop = importlib.import_module(request.param).new_event_loop
    except ImportError:
        pytest.skip(f"{request.param} is not installed")
    running: list[asyncio.AbstractEventLoop] = []
    end = threading.Event()

    async def run() -> None:
        running.append(asyncio.get_running_loop())
        while not end.is_set():
            await asyncio.sleep(0.5)

    def main() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=main, name="loop")
    thread.start()
    yield wait_until(lambda: running)[0]
    end.set()
    thread.join()


def frame() -> FrameType:
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "loop"]
    return sys._current_frames()[thread.ident or 0]


def block(own: socket.socket) -> None:
    own.recv(1)


def block_in_a_selector(own: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(own, selectors.EVENT_READ)
        selector.select()


def test_a_loop_that_waits_is_idle(loop: asyncio.AbstractEventLoop) -> None:
    wait_until(lambda: is_idle(frame()))


@pytest.mark.parametrize("function", [block, block_in_a_selector])
def test_a_loop_in_which_a_function_blocks_is_not(
    loop: asyncio.AbstractEventLoop, function: Callable[[socket.socket], None]
) -> None:
    own, other = socket.socketpair()
    with own, other:
        loop.call_soon_threadsafe(function, own)
        loop.call_soon_threadsafe(own.shutdown, socket.SHUT_WR)
        wait_until(lambda: function.__code__ in codes(frame()))
        for _ in range(100):
            assert not is_idle(frame())
        other.send(b"x")
        assert other.recv(1) == b""  # the function has returned


def codes(innermost: FrameType) -> set[object]:
    found: set[object] = set()
    at: FrameType | None = innermost
    while at:
        found.add(at.f_code)
        at = at.f_back
    return found
