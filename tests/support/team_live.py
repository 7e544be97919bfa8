"""What tests/apps/team does with what stays open or takes long: checks of a base URL, as in team_pages."""

import asyncio
import hashlib
import http.client
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from tornado.websocket import WebSocketClientConnection

from tests.support.basics import wait_until
from tests.support.web_session import WebSession
from tests.support.websocket import websocket

UPLOAD_BYTES = 200_000_000
BLOCK = bytes(range(256)) * 1000


def an_answer_is_streamed_in_parts(base: str) -> None:
    response = WebSession(base).get("/stream?lines=1000")
    assert response.text.splitlines() == [f"line {number}" for number in range(1000)]
    assert "Content-Length" not in response.headers


def a_large_answer_arrives_whole(base: str) -> None:
    response = WebSession(base).get("/big")
    assert response.headers["Content-Length"] == str(256 * 20_000)
    assert response.body == bytes(range(256)) * 20_000


def an_event_arrives_before_the_stream_ends_and_the_handler_learns_that_its_client_has_gone(
    base: str,
) -> None:
    session, key = WebSession(base), uuid.uuid4().hex
    connection = http.client.HTTPConnection(session.netloc, timeout=30)
    connection.request("GET", f"/events?key={key}", headers={"Accept": "text/event-stream"})
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert [response.readline() for _ in range(5)][:2] == [b"id: 0\n", b"data: event 0\n"]
    assert json.loads(session.get(f"/audit?key={key}").text)["audit"] == []
    response.close()
    connection.close()
    wait_until(lambda: json.loads(session.get(f"/audit?key={key}").text)["audit"] == ["left"])


def an_upload_of_200_mb_is_read_as_it_comes(base: str) -> None:
    body_digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for _ in range(UPLOAD_BYTES // len(BLOCK)):
            body_digest.update(BLOCK)
            yield BLOCK

    length = UPLOAD_BYTES // len(BLOCK) * len(BLOCK)
    response = WebSession(base)("PUT", "/upload", headers={"Content-Length": str(length)}, body=body())
    assert json.loads(response.text) == {
        "sha256": body_digest.hexdigest(),
        "bytes": length,
        "in_parts": True,
    }


def a_chunked_upload_is_read_as_it_comes(base: str) -> None:
    response = WebSession(base)("PUT", "/upload", body=iter([BLOCK] * 10))
    assert json.loads(response.text)["sha256"] == hashlib.sha256(BLOCK * 10).hexdigest()


def a_handler_limits_its_own_body(base: str) -> None:
    session = WebSession(base)
    try:
        status = session("PUT", "/upload?largest=1000", body=bytes(1001)).status
    except (OSError, http.client.HTTPException):
        status = 400  # Tornado closes the connection without reading the body, which can cut off its answer
    assert status in (400, 413, 502)
    assert session("PUT", "/upload?largest=1000", body=bytes(1000)).status == 200


def a_form_brings_files(base: str) -> None:
    parts = [
        b'Content-Disposition: form-data; name="title"\r\n\r\nthe title',
        b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nabc",
        b'Content-Disposition: form-data; name="file"; filename="b.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + bytes(3_000_000),
    ]
    body = b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    answer = json.loads(WebSession(base)("POST", "/attachments", headers=headers, body=body).text)
    assert answer["title"] == "the title"
    assert answer["files"] == [
        {"field": "file", "name": "a.txt", "type": "text/plain", "bytes": 3},
        {"field": "file", "name": "b.bin", "type": "application/octet-stream", "bytes": 3_000_000},
    ]


def a_report_in_memory_tells_its_progress(base: str) -> None:
    session = WebSession(base, room="reports")  # AFFINITY: the same process
    made = session("POST", "/reports?pages=5")
    assert made.status == 202
    seen = []

    def done() -> bool:
        seen.append(json.loads(session.get(made.headers["Location"]).text))
        return bool(seen[-1]["result"])

    wait_until(done)
    assert seen[-1] == {"done": 5, "of": 5, "result": "a report of 5 pages"}
    assert [report["done"] for report in seen] == sorted(report["done"] for report in seen)


def a_summary_is_a_job(base: str) -> None:
    assert WebSession(base).get("/summary?pages=3").text == "a summary of 3 pages"


def all_in_a_room_read_what_one_says(base: str) -> None:
    room = f"lobby{uuid.uuid4().hex}"

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            members = [await stack.enter_async_context(_joined(base, room)) for _ in range(4)]
            for number, member in enumerate(members):
                await member.write_message(f"hello from {number}")
                for other in members:
                    assert await other.read_message() == f"hello from {number}"

    _run(scenario)
    said = json.loads(WebSession(base, room=room).get(f"/chat/{room}/history").text)["said"]
    assert said == [f"hello from {number}" for number in range(4)]


def a_websocket_takes_binary_and_large_messages(base: str) -> None:
    async def scenario() -> None:
        async with _joined(base, "binary") as member:
            await member.write_message(b"abc", binary=True)
            assert await member.read_message() == b"cba"
            large = "x" * 1_500_000
            await member.write_message(large)
            assert await member.read_message() == large

    _run(scenario)


def a_websocket_has_a_subprotocol_and_a_close_code(base: str) -> None:
    async def scenario() -> None:
        async with _joined(base, "codes", ["chat.v1", "chat.v2"]) as member:
            assert member.selected_subprotocol == "chat.v2"
            await member.write_message("leave")
            assert await member.read_message() is None
            assert (member.close_code, member.close_reason) == (4001, "you asked for it")

    _run(scenario)


def a_websocket_of_a_foreign_page_is_refused(base: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers = {
        **upgrade,
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Origin": "http://elsewhere.example",
    }
    assert WebSession(base)("GET", "/chat/lobby", headers=headers).status == 403


def _joined(
    base: str, room: str, subprotocols: list[str] | None = None
) -> AbstractAsyncContextManager[WebSocketClientConnection]:
    url = f"{base.replace('http', 'ws', 1)}/chat/{room}"
    headers = {"Cookie": f"room={room}", "Origin": base}
    return websocket(url, headers, subprotocols=subprotocols, max_message_size=4 << 20)


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(main())
