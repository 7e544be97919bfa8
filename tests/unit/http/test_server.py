"""What slowpool's HTTP server does beyond Tornado's own tests (test_tornado_suite.py)."""

import asyncio
import contextlib
import errno
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from slowpool.http import connection
from slowpool.http.server import Server
from tests.support import http_server
from tests.support.http_server import GET, Run, until

MEGABYTE = 1024 * 1024
UPGRADE = (
    b"GET /talk HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
HELLO_FRAME = b"\x81\x85\x00\x00\x00\x00hello"
"""A text frame of a client, with a mask of zeros."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

seen: list[Any] = []
go_on = asyncio.Event()


class Echo(RequestHandler):
    def get(self, text: str) -> None:
        seen.append(text)
        self.finish(text)


class Wait(RequestHandler):
    async def get(self) -> None:
        seen.append("waits")
        try:
            await go_on.wait()
        finally:
            seen.append("ends")
        self.finish("waited")

    def on_connection_close(self) -> None:
        seen.append("gone")


class Blocks(RequestHandler):
    def get(self) -> None:
        seen.append("blocks")
        time.sleep(0.02)
        self.finish("blocked")

    post = get


class Large(RequestHandler):
    def get(self, size: str) -> None:
        self.finish(b"x" * int(size))


class Pours(RequestHandler):
    """Writes as fast as its client reads."""

    async def get(self) -> None:
        with contextlib.suppress(StreamClosedError):
            for count in range(100):
                self.write(b"x" * MEGABYTE)
                await self.flush()
                seen.append(count)


@stream_request_body
class Drinks(RequestHandler):
    """Reads nothing before it may."""

    async def data_received(self, chunk: bytes) -> None:
        await go_on.wait()
        seen.append(len(chunk))

    def put(self) -> None:
        self.finish(str(sum(seen)))


@stream_request_body
class Refuses(RequestHandler):
    """Answers before the body has come."""

    def prepare(self) -> None:
        self.finish("no" * MEGABYTE)


class Talks(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


APP = Application(
    [
        ("/echo/(.*)", Echo),
        ("/wait", Wait),
        ("/blocks", Blocks),
        ("/large/(.*)", Large),
        ("/pours", Pours),
        ("/drinks", Drinks),
        ("/refuses", Refuses),
        ("/talk", Talks),
    ]
)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Server, int]]:
    """The server and its port."""
    global go_on
    go_on = asyncio.Event()
    async with http_server.serving(APP, **settings) as served:
        yield served


def slow_client(port: int) -> socket.socket:
    """A client for which the kernel keeps little that it has not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    return client


async def answers(reader: asyncio.StreamReader, count: int) -> list[str]:
    """The bodies of so many answers with a Content-Length."""
    bodies = []
    for _ in range(count):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        bodies.append((await reader.readexactly(length)).decode())
    return bodies


def test_requests_that_come_at_once_are_answered_in_their_order(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"/wait" + b"".join(GET % b"/echo/%d" % n for n in range(50)))
            await until(lambda: seen)
            assert seen == ["waits"]
            go_on.set()
            assert await answers(reader, 51) == ["waited", *map(str, range(50))]
            writer.close()

    run(main)


def test_the_loop_goes_on_between_requests_that_are_ready_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
            for _, writer in connections:
                writer.write(GET % b"/blocks")
            time.sleep(0.05)  # noqa: ASYNC251  # all of them arrive in the same iteration of the loop
            loop = asyncio.get_running_loop()

            def tick() -> None:
                seen.append("tick")
                if seen.count("blocks") < 10:
                    loop.call_later(0, tick)

            loop.call_later(0, tick)
            for reader, writer in connections:
                assert await answers(reader, 1) == ["blocked"]
                writer.close()
            assert seen.count("tick") >= 9

    run(main)


def test_requests_with_bodies_share_no_turn_though_those_before_them_were_quick(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
            for _, writer in connections[:6]:
                writer.write(GET % b"/echo/quick")
            for _, writer in connections[6:]:
                writer.write(b"POST /blocks HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            time.sleep(0.05)  # noqa: ASYNC251  # all of them arrive in the same iteration of the loop
            loop = asyncio.get_running_loop()

            def tick() -> None:
                seen.append("tick")
                if seen.count("blocks") < 4:
                    loop.call_soon(tick)

            loop.call_soon(tick)
            for reader, writer in connections:
                await answers(reader, 1)
                writer.close()
            assert seen.count("blocks") == 4
            assert all(pair != ("blocks", "blocks") for pair in itertools.pairwise(seen))

    run(main)


def test_a_handler_that_flushes_waits_for_a_slow_reader(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(GET % b"/pours")
                await until(lambda: seen)
                await asyncio.sleep(0.3)  # to write more, if it did not wait
                assert len(seen) < 20
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                received = 0
                while received < 100 * MEGABYTE:
                    received += len(await loop.sock_recv(client, MEGABYTE))
                await until(lambda: len(seen) == 100)

    run(main)


def test_reading_pauses_while_a_handler_does_not_take_the_body(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                body = b"x" * (64 * MEGABYTE)
                head = b"PUT /drinks HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
                await loop.sock_sendall(client, head)
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < len(body):
                        async with asyncio.timeout(0.5):
                            await loop.sock_sendall(client, body[sent : sent + MEGABYTE])
                        sent += MEGABYTE
                assert sent < 32 * MEGABYTE

    run(main)


def test_a_body_of_many_parts_arrives_whole_in_a_handler_that_is_slow(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PUT /drinks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for size in (1, 65536, 3, 300_000):
                writer.write(b"%x\r\n%b\r\n" % (size, b"x" * size))
            writer.write(b"0\r\n\r\n" + GET % b"/echo/next")
            await asyncio.sleep(0.05)
            go_on.set()
            assert await answers(reader, 2) == ["365540", "next"]
            writer.close()

    run(main)


def test_what_a_client_sends_right_behind_its_handshake_reaches_the_websocket(run: Run) -> None:
    async def main() -> None:
        async with serving() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(UPGRADE + HELLO_FRAME)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x81\x05hello"
            writer.write(HELLO_FRAME)
            assert await reader.readexactly(7) == b"\x81\x05hello"
            await until(lambda: not server.connections)  # it speaks HTTP no more
            writer.close()

    run(main)


@pytest.mark.parametrize("sent", [b"", b"GET /echo/a HT", GET % b"/echo/a"])
def test_a_connection_without_a_whole_request_is_closed_after_its_time(run: Run, sent: bytes) -> None:
    async def main() -> None:
        async with serving(idle_seconds=0.2) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(30):
                assert (await reader.read()).endswith(b"a" if sent.endswith(b"\r\n") else b"")
            writer.close()

    run(main)


def test_an_answer_arrives_whole_before_the_websocket_that_was_asked_for_behind_it(run: Run) -> None:
    """The part of the answer that waits is small enough for writing to go on."""

    async def main() -> None:
        async with serving(keeps_unsent=True) as (_, port):
            with slow_client(port) as client:
                reader, writer = await asyncio.open_connection(sock=client, limit=1000)
                writer.write(GET % b"/large/50000" + UPGRADE + HELLO_FRAME)
                await asyncio.sleep(0.3)  # for the handshake to be taken too early
                async with asyncio.timeout(30):
                    assert await answers(reader, 1) == ["x" * 50_000]
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                    assert await reader.readexactly(7) == b"\x81\x05hello"
                writer.close()

    run(main)


def test_a_client_that_reads_an_answer_slowly_gets_all_of_it(run: Run) -> None:
    async def main() -> None:
        async with serving(keeps_unsent=True, idle_seconds=0.5) as (_, port):
            with slow_client(port) as client:
                reader, writer = await asyncio.open_connection(sock=client, limit=1000)
                writer.write(GET % b"/large/1000000")
                loop = asyncio.get_running_loop()
                began_at = loop.time()
                received = 0
                while received < 1_000_000 and (part := await reader.read(1000)):
                    received += len(part)
                    if loop.time() < began_at + 2:
                        await asyncio.sleep(0.01)
                assert received >= 1_000_000
                writer.close()

    run(main)


TOO_LARGE = b"PUT /drinks HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n"
UNWANTED = b"PUT /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n"
LONG_HEAD = GET % b"/echo/a".ljust(2000, b"a")


@pytest.mark.parametrize(
    ("sent", "status"),
    [(TOO_LARGE, b"400"), (UNWANTED, b"200"), (LONG_HEAD, b"431")],
    ids=["body", "early", "head"],
)
def test_a_client_that_still_sends_when_it_is_answered_is_not_reset(
    run: Run, sent: bytes, status: bytes
) -> None:
    async def main() -> None:
        async with serving(body_bytes=20_000_000 - (sent == TOO_LARGE), head_bytes=1000) as (server, port):
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                await loop.sock_sendall(client, sent)
                answer = b""
                while part := await loop.sock_recv(client, MEGABYTE):
                    answer += part
                assert answer.startswith(b"HTTP/1.1 %b " % status)
                assert answer.endswith(b"no" * MEGABYTE if sent == UNWANTED else b"\r\n\r\n")
                for _ in range(20):
                    await loop.sock_sendall(client, b"x" * MEGABYTE)
            await until(lambda: not server.connections)

    run(main)


def test_a_client_that_never_stops_sending_is_closed_in_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)

    async def main() -> None:
        async with serving(body_bytes=1) as (server, port):
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                await loop.sock_sendall(client, TOO_LARGE)
                async with asyncio.timeout(30):
                    with contextlib.suppress(ConnectionError):  # the end of the loop
                        while True:
                            await loop.sock_sendall(client, b"x" * 1000)
                            await asyncio.sleep(0.001)
            await until(lambda: not server.connections)

    run(main)


def test_an_early_answer_that_is_read_slowly_arrives_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.05)

    async def main() -> None:
        async with serving(keeps_unsent=True) as (_, port):
            with slow_client(port) as client:
                reader, writer = await asyncio.open_connection(sock=client, limit=1000)
                writer.write(UNWANTED)
                await asyncio.sleep(0.5)  # to be closed too early
                async with asyncio.timeout(30):
                    assert (await reader.read()).endswith(b"no" * MEGABYTE)
                writer.close()

    run(main)


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_a_client_that_reads_nothing_of_its_answer_is_closed_after_its_time(run: Run, header: bytes) -> None:
    async def main() -> None:
        async with serving(keeps_unsent=True, idle_seconds=0.2) as (server, port):
            with slow_client(port) as client:
                client.sendall(b"GET /large/10000000 HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n")
                await until(lambda: server.connections)
                await until(lambda: not server.connections)

    run(main)


def test_a_connection_with_a_request_is_not_idle(run: Run) -> None:
    async def main() -> None:
        async with serving(idle_seconds=0.1) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"/wait")
            await asyncio.sleep(0.5)
            go_on.set()
            assert await answers(reader, 1) == ["waited"]
            writer.close()

    run(main)


def test_a_client_that_ends_its_side_gets_the_answers_that_are_there_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(GET % b"/echo/%d" % n for n in range(20)))
            writer.write_eof()
            assert await answers(reader, 20) == [*map(str, range(20))]
            assert await reader.read() == b""
            writer.close()

    run(main)


@pytest.mark.parametrize("behind", [b"", GET % b"/echo/a" * 3])
def test_a_client_that_goes_is_noticed_while_its_handler_runs(run: Run, behind: bytes) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"/wait" + behind)
            await until(lambda: seen)
            writer.close()
            await until(lambda: "gone" in seen)
            go_on.set()
            await until(lambda: "ends" in seen)
            assert seen == ["waits", "gone", "ends"]

    run(main)


def test_no_connection_is_reset_that_the_kernel_has_accepted_before_the_listener_closes(run: Run) -> None:
    """Clients connect as fast as they can while the server stops, again and again."""
    wrong: list[str] = []
    stopped = threading.Event()
    port = 0

    def connect() -> None:
        while not stopped.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=0.2) as client:
                    client.settimeout(30)
                    client.sendall(b"GET /echo/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    if not client.recv(1000).startswith(b"HTTP/1.1 200 "):
                        wrong.append("no answer")
            except (ConnectionRefusedError, TimeoutError):
                pass  # there is no listener, or the kernel has dropped it: no request was sent
            except OSError as error:
                wrong.append(errno.errorcode[error.errno or 0])

    async def main() -> None:
        nonlocal port
        threads = [threading.Thread(target=connect) for _ in range(4)]
        for number in range(20):
            async with serving() as (server, port):
                if not number:
                    for thread in threads:
                        thread.start()
                before = len(seen)
                await until(lambda: len(seen) > before + 20)  # noqa: B023
                await server.stop_listening()
                await until(lambda: not server.connections)
        stopped.set()
        for thread in threads:
            thread.join()

    run(main)
    assert not wrong
