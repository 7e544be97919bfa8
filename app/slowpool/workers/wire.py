"""The frames on the channel between an instance and a worker. Both sides import this: standard library only.

The instance sends one request at a time. The worker sends the items of a stream as they come, and one reply.
Each frame of the worker repeats the number of the job, which is random: a process that an earlier task left
behind may have the channel too, but cannot guess it.
"""

import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

REQUEST = struct.Struct("!Q?Q")
"""Number of the job, whether its items are sent one by one, size of the pickled ``(task, args, kwargs)``."""

REPLY = struct.Struct("!c?QQQ")
"""Kind of the frame, whether processes of the task's are left, number of the job, resident bytes that the
worker has added since its start, size of the body that follows."""

READY = b"S"  # sent once at the start, with number 0 and no body
ITEM = b"I"  # pickle of an item of a stream
RESULT = b"R"  # pickle of the result; None at the end of a stream
RAISED = b"E"  # pickle of (pickle of the exception, its traceback as text)
NOT_PICKLABLE = b"U"  # pickle of (what cannot be pickled and why, the traceback as text)
TOO_LARGE = b"L"  # pickle of what is too large

REPLIES = (RESULT, RAISED, NOT_PICKLABLE, TOO_LARGE)


class Reply(NamedTuple):
    """A frame of the worker; the body is in the pieces in which it has arrived."""

    kind: bytes
    body: list[bytes]
    added_bytes: int
    has_children: bool

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.body))


class ReplyReader:
    """Assembles the frames of a job from what arrives on the channel: items, and one reply of these kinds."""

    def __init__(
        self, number: int, kinds: Collection[bytes], max_bytes: int, *, streamed: bool = False
    ) -> None:
        self._number = number
        self._kinds = {*kinds, ITEM} if streamed else {*kinds}
        self._max_bytes = max_bytes
        self._head = b""
        self._body: list[bytes] = []
        self._missing = 0
        self._complete = False

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Take the next bytes; yields each frame that they complete.

        Raises ValueError when the bytes are anything but that. Its text says what they are.
        """
        view = memoryview(data)
        while view:
            if self._complete:
                raise ValueError(f"{len(view)} bytes while it had no job")
            if len(self._head) < REPLY.size:
                wanted = REPLY.size - len(self._head)
                self._head += view[:wanted]
                view = view[wanted:]
                if len(self._head) < REPLY.size:
                    return
                self._begin()
            if self._missing:
                piece = view[: self._missing]
                self._body.append(bytes(piece))
                self._missing -= len(piece)
                view = view[len(piece) :]
            if not self._missing:
                kind, has_children, _, added_bytes, _ = REPLY.unpack(self._head)
                self._complete = kind != ITEM
                if self._complete and view:
                    raise ValueError(f"{len(view)} bytes after its reply")
                body, self._head, self._body = self._body, b"", []
                yield Reply(kind, body, added_bytes, has_children)

    def _begin(self) -> None:
        kind, _, number, _, self._missing = REPLY.unpack(self._head)
        if number != self._number or kind not in self._kinds:
            raise ValueError("bytes that are no reply to its job")
        if self._missing > self._max_bytes:
            raise ValueError(f"a reply of {self._missing} bytes, more than SLOW_MAX_RESULT_BYTES")
