"""Stand-ins for instances that report a wrong status, or nothing that can be read."""

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from tornado.websocket import WebSocketProtocol13

from slowpool.observe.history import step_number

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\n\r\t\x00\u202e\u2066\u2028\u2029\u200f\ufeff"


def said(**values: Any) -> dict[str, Any]:
    """The report of a healthy instance."""
    return {
        "state": "ready",
        "uptime_seconds": 12.5,
        "active": 1,
        "waiting": 0,
        "running": [running_job()],
        "waiting_jobs": [waiting_job()],
        "accepted": {},
        "failed_jobs": [],
        "learned": [{"route": "/a", "line": "a.py:1, in get", "blocked_seconds": 0.4, "left_seconds": 9.0}],
        "workers": 2,
        "template": 4710,
        "forks": True,
        "worker_restarts": 0,
        "resident_bytes": 30_000_000,
        "routes": {str(step_number() - 1): {"/a": route()}},
        "failures": [failure()],
        "steps": {str(step_number()): step()},
        "process_id": "0123456789abcdef",
        "inherited": {"processes": {}, "steps": {}},
        **values,
    }


def step(**values: Any) -> dict[str, Any]:
    return {
        "requests": 3,
        "errors": 0,
        "refused": 0,
        "lag_seconds": 0.001,
        "waiting": 0,
        "running": 1,
        "latency": {"4": 3},
        "blocks": {},
        **values,
    }


def one_step(**values: Any) -> dict[str, Any]:
    return said(steps={str(step_number()): step(**values)})


def job(**values: Any) -> dict[str, Any]:
    return said(running=[running_job(**values)])


def running_job(**values: Any) -> dict[str, Any]:
    return {
        "job": "00c0ffee00c0ffee",
        "task": "shop.pdf.draw",
        "route": "/slow/{}",
        "request_id": "abc",
        "worker": 4711,
        "age_seconds": 0.5,
        "progress": 0.4,
        "message": "page 2",
        "deadline_seconds": 59.5,
        "cpu_seconds": 0.4,
        "resident_bytes": 50_000_000,
        "accepted": False,
        **values,
    }


def waiting_job(**values: Any) -> dict[str, Any]:
    return {
        "job": "00c0ffee00c0ffef",
        "task": "shop.pdf.draw",
        "route": "/slow/{}",
        "request_id": "abd",
        "age_seconds": 0.2,
        "place": 1,
        **values,
    }


def failure(**values: Any) -> dict[str, Any]:
    return {
        "job": "00c0ffee00c0fff0",
        "task": "shop.pdf.draw",
        "route": "/slow/{}",
        "request_id": "abe",
        "ended": 1_790_000_000.5,
        "outcome": "failed",
        "error": "KeyError: 'tea'",
        **values,
    }


def route(**values: Any) -> dict[str, Any]:
    return {
        "requests": 3,
        "errors": 0,
        "refused": 0,
        "latency": {"4": 3},
        "handed_over": 0,
        "with_jobs": 0,
        "queue_seconds": 0.0,
        "run_seconds": 0.0,
        **values,
    }


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(answer: bytes, *more: bytes) -> Serve:
    """Something that answers a handshake with these very bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (answer, *more):
            writer.write(part)
            await writer.drain()
        await reader.read()

    return serve


def web_socket(*frames: bytes) -> Serve:
    """Something that accepts the handshake and sends these frames (RFC 6455, 5.2)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"(?i)Sec-WebSocket-Key: (\S+)", request)
        assert found
        accept = WebSocketProtocol13.compute_accept_value(found[1])
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        for frame in frames:
            writer.write(frame)
            await writer.drain()
        await reader.read()

    return serve


def frame(content: bytes, opcode: int = 1, final: bool = True) -> bytes:
    return struct.pack("!BBQ", 128 * final + opcode, 127, len(content)) + content


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@contextmanager
def served(serve: Serve, port: int) -> Iterator[None]:
    """Something that serves on this port, in a thread of its own."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    async def main(listens: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(guarded, "127.0.0.1", port):
            listens.set_result((asyncio.get_running_loop(), over))
            await over.wait()
            serving = asyncio.all_tasks() - {asyncio.current_task()}
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving)
            await asyncio.sleep(0)  # their connections are closed in the next turn of the loop

    listens: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(asyncio.run, main(listens))
        loop, over = listens.result(60)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(over.set)
            ended.result(60)


UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
