"""What the tests of the HTTP server share."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from tests.support.http_server import Run


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function on a loop of its own."""

    def run(main: Callable[[], Any]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run
