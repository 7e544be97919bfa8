"""Heartbeat: when an instance last made progress, in a file that the watchdog reads."""

import contextlib
import logging
import mmap
import os
import struct
import time
from pathlib import Path

log = logging.getLogger("slowpool.loop")

INSTANT = struct.Struct("=d")


class Heartbeat:
    """Notes each beat of the instance on this port. Without a folder nobody reads it."""

    def __init__(self, folder: Path | None, port: int) -> None:
        self._instant = mmap.mmap(-1, INSTANT.size)
        if folder is None:
            return
        try:
            self._instant = _shared(_file(folder, port))
        except OSError as error:
            log.warning("the watchdog cannot see whether the event loop runs: %s", error)

    def beat(self) -> None:
        """Note that the instance makes progress: its event loop runs, or it begins or ends a request."""
        INSTANT.pack_into(self._instant, 0, time.monotonic())


def last_beat(folder: Path, port: int) -> float:
    """When the instance on this port last made progress, on the monotonic clock; 0 if never."""
    with contextlib.suppress(OSError, struct.error):
        instant: float = INSTANT.unpack(_file(folder, port).read_bytes())[0]
        return instant
    return 0.0


def _file(folder: Path, port: int) -> Path:
    return folder / f"heartbeat-{port}"


def _shared(file: Path) -> mmap.mmap:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # Without the bytes, a write into the map would end the process when the disk is full.
        os.write(descriptor, bytes(INSTANT.size))
        return mmap.mmap(descriptor, INSTANT.size)
    finally:
        os.close(descriptor)
