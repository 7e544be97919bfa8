"""The frames, without a socket."""

import pytest

from slowpool.workers.wire import ITEM, RAISED, READY, REPLY, RESULT, Reply, ReplyReader

NUMBER = 2**64 - 1
BODY = b"the body"
FRAME = REPLY.pack(RESULT, False, NUMBER, 4096, len(BODY)) + BODY


def reader() -> ReplyReader:
    return ReplyReader(NUMBER, {RESULT, RAISED}, max_bytes=100)


@pytest.mark.parametrize("size", range(1, len(FRAME) + 1))
def test_a_reply_is_complete_with_its_last_byte_however_it_is_cut(size: int) -> None:
    read = reader()
    *first, last = [FRAME[at : at + size] for at in range(0, len(FRAME), size)]
    assert [reply for part in first for reply in read.feed(part)] == []
    (reply,) = read.feed(last)
    assert (reply.kind, b"".join(reply.body), reply.added_bytes) == (RESULT, BODY, 4096)


def test_a_reply_may_be_empty() -> None:
    frame = REPLY.pack(READY, False, 0, 1, 0)
    assert [*ReplyReader(0, {READY}, 0).feed(frame)] == [Reply(READY, [], 1, False)]


def test_a_stream_has_items_before_its_reply_and_no_other_job_has() -> None:
    item = REPLY.pack(ITEM, False, NUMBER, 0, len(BODY)) + BODY
    streamed = ReplyReader(NUMBER, {RESULT}, 100, streamed=True)
    kinds = [reply.kind for part in (item[:30], item[30:] + item, FRAME) for reply in streamed.feed(part)]
    assert kinds == [ITEM, ITEM, RESULT]
    with pytest.raises(ValueError, match="bytes that are no reply to its job"):
        [*reader().feed(item)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (REPLY.pack(RESULT, False, NUMBER - 1, 0, 0), "bytes that are no reply to its job"),
        (REPLY.pack(READY, False, NUMBER, 0, 0), "bytes that are no reply to its job"),
        (REPLY.pack(RESULT, False, NUMBER, 0, 101), "a reply of 101 bytes, more than SLOW_MAX_RESULT_BYTES"),
        (FRAME + b"more", "4 bytes after its reply"),
        (2 * FRAME, f"{len(FRAME)} bytes after its reply"),
    ],
)
def test_anything_but_the_reply_to_the_job_is_an_error_that_says_what_came(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        [*reader().feed(data)]


def test_bytes_after_a_complete_reply_are_an_error() -> None:
    read = reader()
    assert len([*read.feed(FRAME)]) == 1
    with pytest.raises(ValueError, match=r"^1 bytes while it had no job$"):
        [*read.feed(b"x")]
