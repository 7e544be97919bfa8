"""The memory of a process."""

import resource

import psutil

from slowpool.linux.memory import resident_bytes, return_free_pages


def test_resident_bytes_grow_by_what_is_written() -> None:
    before = resident_bytes()
    data = b"x" * (64 << 20)
    assert resident_bytes() - before >= len(data) // 2
    assert resident_bytes() <= psutil.virtual_memory().total
    assert resident_bytes() % resource.getpagesize() == 0


def test_what_is_freed_between_objects_in_use_is_returned_to_the_kernel() -> None:
    pieces, objects_between = [], []
    for _ in range(600):
        pieces.append(b"x" * 100_000)  # few enough to be of the heap, see M_MMAP_THRESHOLD in mallopt(3)
        objects_between.append(b"x" * 1000)
    before = resident_bytes()
    pieces.clear()
    return_free_pages()
    assert before - resident_bytes() > 50_000_000
    assert len(objects_between) == 600
