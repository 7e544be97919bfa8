"""The memory of a process."""

import resource

import psutil

from slowpool.linux.memory import resident_bytes


def test_resident_bytes_grow_by_what_is_written() -> None:
    before = resident_bytes()
    data = b"x" * (64 << 20)
    assert resident_bytes() - before >= len(data) // 2
    assert resident_bytes() <= psutil.virtual_memory().total
    assert resident_bytes() % resource.getpagesize() == 0
