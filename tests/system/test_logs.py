"""What a client sends gets into no line of the log but as printable text, and its query into none at all."""

import base64
import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest

from tests.support.certificate import make_certificate, needs_openssl
from tests.support.system import System

pytestmark = needs_openssl

SECRET = b"s3cr3t"
"""Stands only where nothing of it may be logged."""

LAST = "127.0.0.9"
"""The client of the last request."""

ODD = [bytes([byte]) for byte in (*range(33), *b'"#%?\\', 127, 128, 155, 160, 194, 195, 255)]
NASTY = [
    b"\x1b]0;owned\x07\x1b[2J",
    b'", client: 6.6.6.6, request: "GET /?' + SECRET,
    b'\\", "x": "' + SECRET,
    b"\xc2\x9b31m\x9b31m",
    b"\xe2\x80\xae\xef\xbb\xbf\xed\xa0\x80\xff\xfe",
    b', upstream: "http://6.6.6.6:1/' + SECRET,
    b"%0a%1b%9b%ff",
]
LARGE = b"Content-Length: 99999999\r\n"
"""A body that is refused, which is an error line."""


@pytest.fixture(scope="module", params=["json", pytest.param("console", marks=pytest.mark.long)])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with all that logs, and without an instance in its slow pool."""
    folder = tmp_path_factory.mktemp("logs")
    make_certificate(folder / "certificate", folder / "key")
    (folder / "password").write_text("correct horse")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HTTP2", "on")
        system = System(
            LOG_FORMAT=request.param,
            APP="tests.apps.controlled:make_app",
            TLS_CERTIFICATE=folder / "certificate",
            TLS_KEY=folder / "key",
            ADMIN_PASSWORD_FILE=folder / "password",
            TRUSTED_PROXIES="127.0.0.1",
            SLOW_PER_CLIENT=0,
        )
    with system:
        system.supervisor("stopProcessGroup", "slow")
        yield system


@pytest.mark.timeout(180)
def test_every_line_of_the_log_is_clean_whatever_clients_send(
    system: System, pytestconfig: pytest.Config
) -> None:
    dice = random.Random(7)
    rounds = int(pytestconfig.getoption("--parser-mutants"))
    https = int(str(system.settings["HTTPS_PORT"]))
    for data in http1(dice, rounds):
        for port in (https, system.port, system.admin_port):
            send(port, data, tls=port == https)
    for data in hellos(dice, rounds):
        send(https, data)
    for headers in header_lists(dice, rounds):
        send_http2(https, headers)
    send(https, head(b"POST / HTTP/1.1", LARGE), tls=True, source=LAST)
    system.wait_for_output(f"too large.*{LAST}")
    system.supervisor("stopProcess", "nginx:nginx")  # all that it has to say
    lines = system.raw_output.split(b"\n")[:-1]  # the last may be on its way
    nginx = [line for line in lines if b"nginx" in line]
    assert sum(b"too large" in line for line in nginx) > 100
    assert sum(b"Connection refused" in line for line in nginx) > 10
    for line in filter(None, lines):
        assert SECRET not in line, line
        check(line, system.settings["LOG_FORMAT"] == "json")


def test_an_error_line_says_who_when_and_which_instance(tmp_path: Path) -> None:
    with System(APP="tests.apps.controlled:make_app", SLOW_PROCESSES=1) as system:
        system.supervisor("stopProcessGroup", "slow")
        assert system.get("/slow/echo", source=LAST).status == 503
        found = json.loads(system.wait_for_output("Connection refused"))
        now = time.time()
    assert found.pop("time").startswith(time.strftime("%Y-%m-%dT", time.gmtime(now)))
    message = "connect() failed (111: Connection refused) while connecting to upstream"
    assert found == {
        "logger": "nginx",
        "level": "ERROR",
        "message": message,
        "client": LAST,
        "upstream": f"127.0.0.1:{system.instances('slow')[0]}",
    }


def check(line: bytes, as_json: bool) -> None:
    """Fail unless this is a whole line of the log."""
    text = line.decode()  # UTF-8
    if text.startswith("slowpool: "):
        assert text.isprintable()
    elif as_json:
        found: dict[str, Any] = json.loads(text)
        assert {"time", "logger"} <= found.keys()
        if found["logger"] == "nginx":
            assert text.isascii(), line
            assert text.isprintable(), line
            assert "message" in found or "status" in found
    else:
        assert text.isprintable(), line


def http1(dice: random.Random, rounds: int) -> Iterator[bytes]:
    """What is sent over HTTP/1.1, well-formed or not."""
    for odd in [*ODD, *NASTY, *(dice.randbytes(dice.randrange(1, 60)) for _ in range(rounds))]:
        query = b"?token=" + SECRET
        yield head(b"GET /echo" + odd + query + b" HTTP/1.1")
        yield head(b"GET /echo" + query + odd + b" HTTP/1.1")
        yield head(b"GET /slow/echo" + query + b" HTTP/1.1", b"Referer: " + odd + SECRET)
        yield head(b"POST /echo" + query + b" HTTP/1.1", b"Referer: " + odd + SECRET + b"\r\n" + LARGE)
        yield head(b"POST /" + query + b" HTTP/1.1", b"User-Agent: " + odd + SECRET + b"\r\n" + LARGE)
        yield head(b"POST /" + query + b" HTTP/1.1", b"X-Forwarded-For: " + odd + SECRET + b"\r\n" + LARGE)
        yield head(b"POST /" + query + b" HTTP/1.1", b"X-" + odd + SECRET + b": x\r\n" + LARGE)
        yield head(
            b"POST http://a/" + odd + query + b" HTTP/1.1", b"X-Request-ID: " + odd + SECRET + b"\r\n" + LARGE
        )
        yield head(b"POST http://a" + query + b" HTTP/1.1", LARGE)
        yield b"POST /" + query + b" HTTP/1.1\r\nHost: " + odd + SECRET + b"\r\n" + LARGE + b"\r\n"
        yield b"GET /" + query + b"\r\n"
        yield odd + query + b"\r\n\r\n"
        yield head(b"GET" + odd + b" /" + query + b" HTTP/1.1")
        yield head(b"GET /" + query + b" HTTP/1." + odd)
        yield head(b"GET /#" + SECRET + odd + b" HTTP/1.1")
        for user in (odd + SECRET, b"admin" + odd, odd, b"admin\n" + odd + SECRET, odd + b":" + SECRET):
            credentials = base64.b64encode(user + b":" + SECRET)
            yield head(b"GET /status" + query + b" HTTP/1.1", b"Authorization: Basic " + credentials)
    for method in (b"GET", b"M" * 3000, b"A-B_C"):
        yield head(method + b" /" + b"p" * 5000 + b"?" + SECRET + b" HTTP/1.1")
        yield head(method + b" /" + b'"\\' * 1500 + b"?" + SECRET + b" HTTP/1.1")
        yield head(method + b" * HTTP/1.1")
    yield head(b"GET /?" + SECRET + b" HTTP/1." + b"0" * 3000 + b"1")
    yield b"GET http://a?" + SECRET + b" HTTP/1.0\r\n\r\n"


def hellos(dice: random.Random, rounds: int) -> Iterator[bytes]:
    """What is sent where a TLS handshake should begin."""
    yield head(b"GET /?" + SECRET + b" HTTP/1.1", b"Referer: \x1b" + SECRET)
    for version in range(5):
        for size in (0, 5, 200, 20_000):
            yield bytes([22, 3, version, size >> 8, size & 255]) + dice.randbytes(min(size, 300))
    for _ in range(rounds):
        yield dice.randbytes(dice.randrange(1, 300))


def header_lists(dice: random.Random, rounds: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """What is sent over HTTP/2."""
    for odd in [*ODD, *NASTY, *(dice.randbytes(dice.randrange(1, 60)) for _ in range(rounds))]:
        for method, path, more in (
            (b"GET", b"/echo" + odd, (b"referer", odd + SECRET)),
            (b"POST", b"/echo", (b"referer", odd + SECRET)),
            (b"POST", b"/echo", (b"x" + odd, SECRET)),
            (b"GET", b"/slow/echo", (b"user-agent", odd + SECRET)),
            (odd, b"/echo", (b"host", odd + SECRET)),
        ):
            length = (b"content-length", b"99999999" if method == b"POST" else b"0")
            path += b"?token=" + SECRET
            pseudo = {b":method": method, b":scheme": b"https", b":authority": b"localhost", b":path": path}
            yield [*pseudo.items(), length, more]


def head(line: bytes, headers: bytes = b"") -> bytes:
    """A request with these headers, whole or not."""
    return line + b"\r\nHost: localhost\r\nConnection: close\r\n" + headers.rstrip(b"\r\n") + b"\r\n\r\n"


def send(port: int, data: bytes, *, tls: bool = False, source: str = "") -> None:
    """Send these bytes, and wait for what comes back."""
    address = (source, 0) if source else None
    with (
        contextlib.suppress(OSError),  # nginx may close at any byte
        socket.create_connection(("127.0.0.1", port), timeout=2, source_address=address) as plain,
        trusting().wrap_socket(plain) if tls else plain as connection,
    ):
        connection.sendall(data)
        if not data.endswith(b"\r\n"):  # nginx would wait for more
            connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)


def send_http2(port: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a request on a connection of its own, without a look at what it is."""
    context = trusting()
    context.set_alpn_protocols(["h2"])
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        unchecked = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False
        )
        http2 = h2.connection.H2Connection(unchecked)
        http2.initiate_connection()
        http2.send_headers(1, headers, end_stream=True)
        http2.close_connection()
        connection.sendall(http2.data_to_send())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def trusting() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
