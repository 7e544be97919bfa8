"""Waiting for a condition, free ports, and the environment of a program under test."""

import functools
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from slowpool.config import Config

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = range(15_000 + 4_000 * (WORKER % 4), 19_000 + 4_000 * (WORKER % 4))
"""Ports below those that the kernel gives to outgoing connections; each test process has its own."""


class Entered:
    """A context manager made of others: they are left, last first, also when entering fails half-way."""

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            self.enter(parts)
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parts.__exit__(kind, error, traceback)

    def enter(self, parts: ExitStack) -> None:
        """Enter what it is made of."""
        raise NotImplementedError


def wait_until(condition: Callable[[], T | None], timeout: float = 30, what: str = "") -> T:
    """Poll until the condition is true; returns its value. Raises AssertionError after the timeout."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(0.02)
    return answer


def free_ports(count: int = 1) -> int:
    """The first of some consecutive ports on which nothing listens; none is given twice."""
    while True:
        first = random.randrange(PORTS.start, PORTS.stop - count)
        ports = set(range(first, first + count))
        if not ports & _given and all(_is_free(port) for port in ports):
            _given.update(ports)
            return first


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment, with these settings and the defaults of all others.

    Every default is set, since the caller's shell or a file ``.env`` would otherwise change a test. SLOW_NICE
    is 0 when tests run beside each other: a worker with a low priority would not get the CPU. No two programs
    share accepted jobs unless JOBS_URL says so.
    """
    unknown = settings.keys() - DEFAULTS.keys()
    assert not unknown, f"no such settings: {unknown}"
    beside_others = {"SLOW_NICE": 0} if "PYTEST_XDIST_WORKER" in os.environ else {}
    values = {**DEFAULTS, **beside_others, **settings}
    return {
        **os.environ,
        "SLOWPOOL_STATE_DIR": new_state_dir(),
        **{name: str(value) for name, value in values.items()},
    }


def new_state_dir() -> str:
    """A folder for accepted jobs that goes with this process."""
    return tempfile.mkdtemp(dir=_states().name)


def remove_state_dirs() -> None:
    """Remove them all; a process of xdist does not do so by itself."""
    _states().cleanup()


_given: set[int] = set()


@functools.cache
def _states() -> tempfile.TemporaryDirectory[str]:
    """Made by the first call: a process that only imports this module may end without removing it."""
    return tempfile.TemporaryDirectory(prefix="slowpool-states-")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


DEFAULTS: dict[str, object] = {name.upper(): field.default for name, field in Config.model_fields.items()}
