"""The memory of a process."""

import resource
import subprocess

import psutil

from slowpool.linux.memory import resident_bytes, resident_bytes_of, return_free_pages
from tests.support.basics import wait_until


def test_resident_bytes_grow_by_what_is_written() -> None:
    before = resident_bytes()
    data = b"x" * (64 << 20)
    assert resident_bytes() - before >= len(data) // 2
    assert resident_bytes() <= psutil.virtual_memory().total
    assert resident_bytes() % resource.getpagesize() == 0


def test_resident_bytes_of_another_process_are_those_of_the_kernel_and_none_once_it_has_gone() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        wait_until(lambda: resident_bytes_of(other.pid) == psutil.Process(other.pid).memory_info().rss)
        other.kill()
    assert resident_bytes_of(other.pid) is None


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
