"""Heartbeat: when an instance last made progress, and what it wants, in a file that the watchdog reads."""

import contextlib
import logging
import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("slowpool.loop")

PREFIX = "heartbeat-"

BEAT = struct.Struct("=dq")
"""When, and the pid, negative of an instance that wants a restart: a watchdog that is older reads it too."""


class Beat(NamedTuple):
    """When an instance last made progress, on the monotonic clock, and its process; zeros if never.

    ``wants_restart``: an operator has asked for its restart, which only the watchdog can do.
    """

    at: float
    pid: int
    wants_restart: bool = False


class Heartbeat:
    """Notes each beat of the instance on this port. Without a folder nobody reads it.

    ``before`` is the last beat of the process that was here before; zeros if there was none.
    """

    def __init__(self, folder: Path | None, port: int) -> None:
        self.before = last_beat(folder, port) if folder else Beat(0.0, 0)
        self._folder, self._port = folder, port
        self._map = mmap.mmap(-1, BEAT.size)
        self._pid = os.getpid()
        self.wants_restart = False
        if folder is None:
            return
        try:
            self._map = _shared(_file(folder, port))
        except OSError as error:
            log.warning("the watchdog cannot see whether the event loop runs: %s", error)

    def beat(self) -> None:
        """Note that the instance makes progress: its event loop runs, or it begins or ends a request."""
        BEAT.pack_into(self._map, 0, time.monotonic(), -self._pid if self.wants_restart else self._pid)

    def ask_for_restart(self) -> bool:
        """Have the watchdog drain this instance, and start it again; returns whether it can read that."""
        self.wants_restart = True
        self.beat()
        self.wants_restart = self._folder is not None and last_beat(self._folder, self._port).wants_restart
        return self.wants_restart


def last_beat(folder: Path, port: int) -> Beat:
    """The last beat of the instance on this port, since its start."""
    with contextlib.suppress(OSError, struct.error):
        at, pid = BEAT.unpack(_file(folder, port).read_bytes())
        return Beat(at, abs(pid), wants_restart=pid < 0)
    return Beat(0.0, 0)


def forget_beats(folder: Path) -> None:
    """Remove the beats of instances that ran here before, perhaps before the machine was started again."""
    for file in folder.glob(f"{PREFIX}*"):
        file.unlink()


def _file(folder: Path, port: int) -> Path:
    return folder / f"{PREFIX}{port}"


def _shared(file: Path) -> mmap.mmap:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # Without the bytes, a write into the map would end the process when the disk is full.
        os.write(descriptor, bytes(BEAT.size))
        return mmap.mmap(descriptor, BEAT.size)
    finally:
        os.close(descriptor)
