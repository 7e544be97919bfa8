"""Answers of slowpool's HTTP server that a client could misread, where Tornado's own is no example."""

import asyncio

import pytest
from tornado.web import Application, RequestHandler, stream_request_body

from tests.support.http_server import GET, Run, serving

OLD_GET = b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


class InParts(RequestHandler):
    async def get(self) -> None:
        for _ in range(3):
            self.write("part")
            await self.flush()


class Closes(RequestHandler):
    def get(self) -> None:
        self.set_header("Connection", "close")
        self.finish("closes")


class NoContent(RequestHandler):
    async def get(self) -> None:
        self.set_status(204)
        self.write("not none")
        await self.flush()


@stream_request_body
class AnswersEarly(RequestHandler):
    async def prepare(self) -> None:
        self.write("early ")
        await self.flush()

    def data_received(self, chunk: bytes) -> None:
        pass

    def post(self) -> None:
        self.finish("late")


class Upgrades(RequestHandler):
    """Speaks another protocol, some time after it has said so."""

    async def get(self) -> None:
        self.set_status(101)
        self.set_header("Upgrade", "other")
        self.finish()
        await asyncio.sleep(0.01)
        stream = self.detach()
        await stream.write(b"hello")
        stream.close()


APP = Application(
    [
        ("/in_parts", InParts),
        ("/closes", Closes),
        ("/no_content", NoContent),
        ("/answers_early", AnswersEarly),
        ("/upgrades", Upgrades),
    ]
)


async def all_of(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head of the answer, and what follows it until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(30):
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.lower(), rest


def test_an_answer_of_unknown_length_ends_with_the_connection_for_a_client_of_http_1_0(run: Run) -> None:
    async def main() -> None:
        async with serving(APP) as (_, port):
            head, body = await all_of(port, OLD_GET % b"/in_parts")
            assert body == b"partpartpart"
            assert b"keep-alive" not in head

    run(main)


def test_a_client_of_http_1_0_is_told_that_the_connection_is_closed(run: Run) -> None:
    async def main() -> None:
        async with serving(APP) as (_, port):
            head, body = await all_of(port, OLD_GET % b"/closes")
            assert body == b"closes"
            assert b"connection: close" in head
            assert b"keep-alive" not in head

    run(main)


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_nothing_is_sent_in_the_middle_of_an_answer(run: Run, expect: bytes) -> None:
    async def main() -> None:
        async with serving(APP) as (_, port):
            head = b"POST /answers_early HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n"
            _, body = await all_of(port, head + expect + b"\r\nab")
            assert body == b"6\r\nearly \r\n4\r\nlate\r\n0\r\n\r\n"

    run(main)


def test_the_body_of_an_answer_that_can_have_none_is_not_sent(run: Run) -> None:
    async def main() -> None:
        async with serving(APP) as (_, port):
            head, rest = await all_of(port, GET % b"/no_content")
            assert not head + rest

    run(main)


def test_a_connection_that_is_detached_late_is_upgraded_once(run: Run) -> None:
    async def main() -> None:
        async with serving(APP) as (_, port):
            head, rest = await all_of(port, GET % b"/upgrades")
            assert head.startswith(b"http/1.1 101 ")
            assert rest == b"hello"

    run(main)
