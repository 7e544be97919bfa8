"""The frames on the channel between an instance and a worker. Both sides import this: standard library only.

The instance sends one request at a time, the worker one reply to it. The reply repeats the number of the job,
which is random: a process that an earlier task left behind has the channel too, but cannot guess it.
"""

import struct
from collections.abc import Collection
from typing import NamedTuple

REQUEST = struct.Struct("!QQ")
"""Number of the job, size of the pickled ``(task, args, kwargs)`` that follows."""

REPLY = struct.Struct("!cQQQ")
"""Kind of the reply, number of the job, resident bytes of the worker, size of the body that follows."""

READY = b"S"  # sent once at the start, with number 0 and no body
RESULT = b"R"  # pickle of the result
RAISED = b"E"  # pickle of (pickle of the exception, its traceback as text)
NOT_PICKLABLE = b"U"  # pickle of (what cannot be pickled and why, the traceback as text)


class Reply(NamedTuple):
    kind: bytes
    body: bytes
    resident_bytes: int


class ReplyReader:
    """Assembles the one reply to a job, of one of these kinds, from what arrives on the channel."""

    def __init__(self, number: int, kinds: Collection[bytes], max_bytes: int) -> None:
        self._number = number
        self._kinds = kinds
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._complete = False

    def feed(self, data: bytes) -> Reply | None:
        """Take the next bytes; returns the reply once it is complete.

        Raises ValueError when the bytes are anything but that reply. Its text says what they are.
        """
        if self._complete:
            raise ValueError(f"{len(data)} bytes while it had no job")
        self._buffer += data
        if len(self._buffer) < REPLY.size:
            return None
        kind, number, resident_bytes, size = REPLY.unpack_from(self._buffer)
        excess = len(self._buffer) - REPLY.size - size
        if number != self._number or kind not in self._kinds:
            raise ValueError("bytes that are no reply to its job")
        if size > self._max_bytes:
            raise ValueError(f"a reply of {size} bytes, more than its memory can hold")
        if excess > 0:
            raise ValueError(f"{excess} bytes after its reply")
        if excess < 0:
            return None
        body = bytes(memoryview(self._buffer)[REPLY.size :])
        self._buffer, self._complete = bytearray(), True
        return Reply(kind, body, resident_bytes)
