"""Instances whose status cannot be read, beside sound ones."""

import asyncio
import json
import re
import socket
import struct
import sys
from asyncio.subprocess import PIPE

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from slowpool.config import Config, Instance, Pool
from slowpool.instance import Runtime
from slowpool.observe.untrusted import MAX_TEXT
from tests.support.basics import ROOT, environment, free_ports
from tests.support.hosted import hosted
from tests.support.liars import (
    ESCAPES,
    UNPRINTABLE,
    Serve,
    closes,
    frame,
    http,
    job,
    said,
    served,
    silent,
    web_socket,
)

ADDRESS = "127.0.0.1"

RAW_ESCAPES = ESCAPES.replace("\n", "").replace("\r", "").encode()

MEGABYTE = bytes(1 << 20)

SILENT, CLOSED, UNREADABLE = "has not answered", "it closed the connection", "sends an unreadable report"

EMPTY = b"\r\nContent-Length: 0\r\n\r\n"

LIARS: dict[str, tuple[Serve, str]] = {
    "escapes": (web_socket(frame(json.dumps(said(state=ESCAPES)).encode())), UNREADABLE),
    "escapes in a sound answer": (web_socket(frame(json.dumps(job(route=ESCAPES)).encode())), ""),
    "binary": (web_socket(frame(bytes(99), opcode=2)), UNREADABLE),
    "not UTF-8": (web_socket(frame(b"\xff\xfe")), CLOSED),
    "100 MB": (web_socket(struct.pack("!BBQ", 129, 127, 100 << 20), *[MEGABYTE] * 100), CLOSED),
    "100 MB in parts": (
        web_socket(frame(b"[", final=False), *[frame(MEGABYTE[:99_999], 0, False)] * 1000),
        CLOSED,
    ),
    "a close with escapes": (web_socket(frame(b"\x03\xe8" + RAW_ESCAPES[:100], opcode=8)), CLOSED),
    "a flood of pings": (web_socket(*[b"\x89\x01x"] * 10_000), "no answer in time"),
    "a reason with escapes": (http(b"HTTP/1.1 500 " + RAW_ESCAPES + EMPTY), SILENT),
    "a reason of C1": (http(b"HTTP/1.1 500 \x9b31m" + EMPTY), SILENT),
    "a long reason": (http(b"HTTP/1.1 500 " + b"a" * 60_000 + EMPTY), "500: aaa"),
    "a page": (http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), UNREADABLE),
    "a page of 90 MB": (
        http(b"HTTP/1.1 200 OK\r\nContent-Length: 94371840\r\n\r\n", *[MEGABYTE] * 90),
        "fast:",
    ),
    "a redirect": (http(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/" + EMPTY), "HTTP 302"),
    "half a handshake": (http(b"HTTP/1.1 101 x\r\nUpgrade: no\r\nConnection: no\r\n\r\n"), SILENT),
    "no HTTP": (http(RAW_ESCAPES * 100 + b"\r\n\r\n"), SILENT),
    "endless headers": (http(b"HTTP/1.1 101 x\r\n", *[b"a: b\r\n" * 9999] * 99), SILENT),
    "nothing": (silent, "no answer in time"),
    "the end": (closes, SILENT),
}

STATUS = """
import re, sys
from slowpool.status.terminal import main
status = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print(re.findall("VmHWM: *(.*)", file.read().replace("\\t", " "))[0], file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize("name", LIARS)
def test_one_that_lies_stops_neither_the_terminal_nor_the_figures_of_the_others(name: str) -> None:
    serve, text = LIARS[name]

    async def run() -> None:
        first = free_ports(3)
        config = Config(fast_processes=2, slow_processes=1, fast_port=first, slow_port=first + 2)
        settings = {"FAST_PROCESSES": 2, "SLOW_PROCESSES": 1, "FAST_PORT": first, "SLOW_PORT": first + 2}
        sound = []
        for pool, port in ((Pool.FAST, first), (Pool.SLOW, first + 2)):
            sound.append(HTTPServer(hosted(Runtime(config, Instance(pool, port)))))
            sound[-1].add_sockets(bind_sockets(port, ADDRESS, family=socket.AF_INET))

        try:
            with served(serve, first + 1):
                shown, errors, status = await status_of(settings)
                shown_as_json, _, _ = await status_of(settings, "--json")
            assert status == (1 if text else 0)
            assert text in shown
            assert len(re.findall(r"^(?:fast|slow):\d+ +127\.0\.0\.1 +ready", shown, re.MULTILINE)) == 2 + (
                not text
            )
            assert not UNPRINTABLE.search(shown.replace("\n", ""))
            assert max(map(len, shown.splitlines())) < 12 * MAX_TEXT
            (peak,) = re.findall(r"\A(\d+) kB\Z", errors.strip())
            assert int(peak) < 80_000
            content = json.loads(shown_as_json, parse_constant=lambda constant: pytest.fail(constant))
            assert [one["state"] for one in content["instances"]][::2] == ["ready", "ready"]
        finally:
            for server in sound:
                server.stop()
                await server.close_all_connections()

    asyncio.run(run())


async def status_of(settings: dict[str, int], *options: str) -> tuple[str, str, int]:
    """What ``python -m slowpool status`` prints, its errors and its most memory, and its exit status."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STATUS, *options, cwd=ROOT, env=environment(settings), stdout=PIPE, stderr=PIPE
    )
    output, errors = await child.communicate()
    assert child.returncode is not None
    return output.decode(), errors.decode(), child.returncode
