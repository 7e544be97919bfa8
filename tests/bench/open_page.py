"""``python -m tests.bench.open_page``: the CPU time of an open status page, of all processes of a system.

It is the difference between a watched system and the same one unwatched, in turns.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from statistics import mean
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from tests.bench import cpu
from tests.bench.running import ADMIN_PORT, HTTP_PORT, Running
from tests.bench.systems import slowpool

PATHS = ("/fast", "/", "/openapi.json", "/slow_threaded?n=100", "/report?n=100")


async def _measure(running: Running, options: argparse.Namespace, rate: float) -> tuple[list[float], int]:
    """Cores of a watched system minus those of an unwatched one, of each round; and bytes of a message."""
    pids = [process.pid for process in running.all()]
    differences, sizes = [], [0]
    async with _asking(rate):
        await asyncio.sleep(options.warm_up)
        for _ in range(options.rounds):
            async with _watching(sizes):
                await asyncio.sleep(2)  # the first message has the whole history
                watched = await _cores(pids, options.seconds)
            await asyncio.sleep(1)
            differences.append(watched - await _cores(pids, options.seconds))
    return differences, round(mean(sizes[1:]))


async def _cores(pids: list[int], seconds: float) -> float:
    """The CPU seconds that these processes take in a second."""
    before, start = sum(map(cpu.of_threads, pids)), time.perf_counter()
    await asyncio.sleep(seconds)
    return (sum(map(cpu.of_threads, pids)) - before) / (time.perf_counter() - start)


@contextlib.asynccontextmanager
async def _in_background(work: Callable[[], Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        assert not task.done(), task.exception()
        task.cancel()


def _watching(sizes: list[int]) -> contextlib.AbstractAsyncContextManager[None]:
    """What the page does: it reads the messages, and asks nginx each second."""

    async def watch() -> None:
        client = AsyncHTTPClient()
        connection = await websocket_connect(f"ws://127.0.0.1:{ADMIN_PORT}/status/live")
        try:
            while message := await connection.read_message():
                sizes.append(len(message))
                await client.fetch(f"http://127.0.0.1:{ADMIN_PORT}/status/nginx", raise_error=False)
        finally:
            connection.close()

    return _in_background(watch)


def _asking(rate: float) -> contextlib.AbstractAsyncContextManager[None]:
    """So many requests a second, to each path in turn."""

    async def ask() -> None:
        client = AsyncHTTPClient()
        count = 0
        while True:
            if rate:
                path = PATHS[count % len(PATHS)]
                await client.fetch(f"http://127.0.0.1:{HTTP_PORT}{path}", raise_error=False)
                count += 1
            await asyncio.sleep(1 / (rate or 1))

    return _in_background(ask)


def main() -> None:
    """Print a line for each rate of requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--instances", type=int, default=8, help="half of them fast")
    parser.add_argument("--seconds", type=float, default=20, help="of each of two phases of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0, 20], help="requests/s")
    options = parser.parse_args()
    half = options.instances // 2
    with slowpool(FAST_PROCESSES=half, SLOW_PROCESSES=half) as running:
        for rate in options.rates:
            found, size = asyncio.run(_measure(running, options, rate))
            rounds = ", ".join(f"{share:.2%}" for share in found)
            print(
                f"{options.instances} instances, {rate:g} requests/s: an open page takes {mean(found):.2%} "
                f"of a core ({rounds}); {size} bytes a message",
                flush=True,
            )


if __name__ == "__main__":
    main()
