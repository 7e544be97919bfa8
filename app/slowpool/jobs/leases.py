"""Leases: says in the store, again and again, that this instance still runs its jobs."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from slowpool.jobs.record import Beat
from slowpool.jobs.store import Store, StoreError

BEAT_SECONDS = 0.25
"""How often leases are extended and progress is kept; so soon ends a job that is cancelled elsewhere."""

SETTLE_SECONDS = 2.0
"""How long after a pause no lease is taken for lost: the other instances extend theirs first."""

PAUSE_SECONDS = 3.0
"""So long without a look is a pause, of this process or of the machine."""


class Leases:
    """Extends leases from a thread with a store of its own: a handler may block the event loop for longer.

    ``on_lost`` is called in the event loop with each beat whose job this instance does not have any more.
    """

    def __init__(self, store: Store, on_lost: Callable[[Beat], None]) -> None:
        self.beats: Sequence[Beat] = ()
        self._store = store
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._beat_on()), name="job-leases", daemon=True
        )
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin; what is in ``beats`` is extended from now on."""
        self._thread.start()

    async def close(self) -> None:
        """Extend no lease any more."""
        self._closed.set()
        await asyncio.to_thread(self._thread.join)

    async def _beat_on(self) -> None:
        with contextlib.suppress(StoreError):
            await self._store.open()
        while not self._closed.is_set():
            await asyncio.sleep(BEAT_SECONDS)
            beats = self.beats
            if not beats:
                continue
            with contextlib.suppress(StoreError):  # if that lasts, the leases run out
                lost = await self._store.beat(beats)
                for beat in beats:
                    if beat.id in lost:
                        self._loop.call_soon_threadsafe(self._on_lost, beat)
        await self._store.close()


class Steadiness:
    """Tells whether leases of others can be judged: not soon after the store, or this process, was away."""

    def __init__(self) -> None:
        self._looked_at = time.time()
        self._steady_at = 0.0

    def is_steady(self) -> bool:
        """Look, which must happen often."""
        now = time.time()  # the stores' clock too, which may be set
        if not 0 <= now - self._looked_at < PAUSE_SECONDS:
            self.fail()
        self._looked_at = now
        return time.monotonic() >= self._steady_at

    def fail(self) -> None:
        """Note that the store could not be used."""
        self._steady_at = time.monotonic() + SETTLE_SECONDS
