"""Tasks that use libraries with threads, processes, files or random numbers of their own."""

import asyncio
import functools
import io
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import shared_memory
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import slowpool

MODEL_BYTES = 64 << 20


@slowpool.warm
def model() -> Any:
    """An array of MODEL_BYTES, None without numpy; by then the library has threads and a random state."""
    try:
        import numpy as np
    except ImportError:
        return None
    square = np.ones((500, 500))
    square @ square
    np.random.random()
    return np.ones(MODEL_BYTES // 8)


def draws_numbers() -> list[float]:
    """Of numpy's and Python's own generators, which all processes share that are forked from one."""
    import random

    import numpy as np

    return [*np.random.random(3), random.random()]


def multiplies(size: int = 600) -> float:
    """The greatest error of a product by the library's threads, and of one without them."""
    import numpy as np

    left = np.random.default_rng(1).random((size, size))
    right = np.random.default_rng(2).random((size, size))
    return float(abs(left @ right - np.einsum("ij,jk->ik", left, right, optimize=False)).max())


def reads_the_model() -> tuple[int, float, int]:
    """Read all of it; the pid, the sum, and the bytes of memory that only this process has."""
    total = float(model().sum())
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    own = sum(int(kilobytes) for name, kilobytes, *_ in lines if name.startswith("Private_"))
    return os.getpid(), total, own * 1024


def makes_a_thumbnail() -> tuple[tuple[int, int], str]:
    """Size and format of a picture that was made smaller."""
    from PIL import Image

    data = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((1200, 900)).save(data, "PNG")
    with Image.open(data) as picture:
        picture.thumbnail((64, 64), Image.Resampling.LANCZOS)
        small = io.BytesIO()
        picture.save(small, "JPEG")
    with Image.open(small) as picture:
        picture.load()
        return picture.size, picture.format or ""


@functools.cache
def database(path: str) -> sqlite3.Connection:
    """The worker's own connection: opened by its first job, never before a fork."""
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("CREATE TABLE IF NOT EXISTS jobs (number INTEGER, worker INTEGER)")
    return connection


def writes_to_a_database(path: str, number: int) -> None:
    with database(path) as connection:
        connection.execute("INSERT INTO jobs VALUES (?, ?)", (number, os.getpid()))


def uses_multiprocessing(method: str) -> list[int]:
    """A process with a queue and a lock, a pool, and memory that processes share."""
    context: Any = multiprocessing.get_context(method)
    answers, lock = context.Queue(), context.Lock()
    process = context.Process(target=puts, args=(answers, lock, 41))
    process.start()
    found = [answers.get()]
    process.join()
    with context.Pool(2) as pool:
        found += pool.map(abs, [-1, -2])
    memory = shared_memory.SharedMemory(create=True, size=1)
    try:
        assert memory.buf
        writer = context.Process(target=writes_shared_memory, args=(memory.name,))
        writer.start()
        writer.join()
        found.append(memory.buf[0])
    finally:
        memory.close()
        memory.unlink()
    return found


def puts(answers: Any, lock: Any, number: int) -> None:
    with lock:
        answers.put(number)


def writes_shared_memory(name: str) -> None:
    memory = shared_memory.SharedMemory(name)
    assert memory.buf
    memory.buf[0] = 7
    memory.close()


def uses_executors() -> list[int]:
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        return [*threads.map(abs, [-1, -2]), *processes.map(abs, [-3, -4])]


def uses_subprocess() -> str:
    command = [sys.executable, "-c", "print(input() * 2)"]
    return subprocess.run(command, input="ab", capture_output=True, text=True, check=True).stdout.strip()


def uses_asyncio() -> list[str]:
    return asyncio.run(_talks())


async def _talks() -> list[str]:
    """Over a connection, with a program and with a thread."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"echo\n")
        line = (await reader.readline()).decode().strip()
        writer.close()
        await writer.wait_closed()
    program = await asyncio.create_subprocess_exec("echo", "program", stdout=asyncio.subprocess.PIPE)
    output, _ = await program.communicate()
    return [line, output.decode().strip(), await asyncio.to_thread(lambda: "thread")]


kept: dict[str, Pool | ProcessPoolExecutor] = {}


def keeps_a_pool(kind: str) -> tuple[int, int, list[int]]:
    """Use the pool of this worker, which its first job makes and nobody ends; own pid, and that of one of its
    processes.
    """
    if kind not in kept:
        kept[kind] = multiprocessing.Pool(2) if kind == "Pool" else ProcessPoolExecutor(2)
    pool = kept[kind]
    (child,) = pool.map(own_pid, [0])
    return os.getpid(), child, [*pool.map(abs, [-1, -2])]


def own_pid(_: int) -> int:
    return os.getpid()


def rows_in(path: str) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT number, worker FROM jobs ORDER BY number").fetchall()
