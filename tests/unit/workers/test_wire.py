"""The frames, without a socket."""

import pytest

from slowpool.workers.wire import RAISED, READY, REPLY, RESULT, Reply, ReplyReader

NUMBER = 2**64 - 1
BODY = b"the body"
FRAME = REPLY.pack(RESULT, False, NUMBER, 4096, len(BODY)) + BODY


def reader() -> ReplyReader:
    return ReplyReader(NUMBER, {RESULT, RAISED}, max_bytes=100)


@pytest.mark.parametrize("size", range(1, len(FRAME) + 1))
def test_a_reply_is_complete_with_its_last_byte_however_it_is_cut(size: int) -> None:
    read = reader()
    *first, last = [FRAME[at : at + size] for at in range(0, len(FRAME), size)]
    assert [read.feed(part) for part in first] == [None] * len(first)
    assert read.feed(last) == Reply(RESULT, BODY, 4096)


def test_a_reply_may_be_empty() -> None:
    assert ReplyReader(0, {READY}, 0).feed(REPLY.pack(READY, 0, 1, 0)) == Reply(READY, b"", 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (REPLY.pack(RESULT, False, NUMBER - 1, 0, 0), "bytes that are no reply to its job"),
        (REPLY.pack(READY, NUMBER, 0, 0), "bytes that are no reply to its job"),
        (REPLY.pack(RESULT, False, NUMBER, 0, 101), "a reply of 101 bytes, more than its memory can hold"),
        (FRAME + b"more", "4 bytes after its reply"),
        (2 * FRAME, f"{len(FRAME)} bytes after its reply"),
    ],
)
def test_anything_but_the_reply_to_the_job_is_an_error_that_says_what_came(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        reader().feed(data)


def test_bytes_after_a_complete_reply_are_an_error() -> None:
    read = reader()
    read.feed(FRAME)
    with pytest.raises(ValueError, match=r"^1 bytes while it had no job$"):
        read.feed(b"x")
