"""unpickle: a large result without holding up the event loop."""

import asyncio
import io
import pickle
from typing import Any

from slowpool.linux.memory import return_free_pages

AT_ONCE_BYTES = 256 * 1024
"""Up to this size a result is unpickled in the event loop, which takes about a millisecond."""

STEP_BYTES = 64 * 1024
"""How much is copied at once in the thread; after each step the event loop may go on."""

TRIM_BYTES = 8 * 1024 * 1024
"""From this size on the pages of the pieces are returned to the kernel, in some 0.4 ms."""


async def unpickle(pieces: list[bytes]) -> Any:
    """Return the object; empties the list, so that the memory is free once it is copied."""
    size = sum(map(len, pieces))
    if size <= AT_ONCE_BYTES:
        data = b"".join(pieces)
        pieces.clear()
        return pickle.loads(data)  # nosec B301  # see Job.result
    pieces.reverse()
    found: list[Any] = []  # the executor's future is part of a cycle, and would keep the object for a while
    await asyncio.get_running_loop().run_in_executor(None, _load, pieces, size, found)
    return found.pop()


def _load(pieces: list[bytes], size: int, found: list[Any]) -> None:
    # The unpickler reads frames of 64 kB through Python code, where the thread can give up the interpreter's
    # lock.
    reader = io.BufferedReader(_Pieces(pieces), STEP_BYTES)
    found.append(pickle.Unpickler(reader).load())  # nosec B301  # likewise
    if size >= TRIM_BYTES:
        return_free_pages()


class _Pieces(io.RawIOBase):
    """Reads the pieces of a list, the last one first, and removes them."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces[-1]
        data = memoryview(piece)[self._position : self._position + min(len(buffer), STEP_BYTES)]
        buffer[: len(data)] = data
        self._position += len(data)
        if self._position == len(piece):
            self._pieces.pop()
            self._position = 0
        return len(data)
