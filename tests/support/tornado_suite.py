"""``python -m tests.support.tornado_suite MODULE [uvloop]``: Tornado's own tests, of slowpool's HTTP server.

Exit status 1 when one fails that is not in DIFFERENT. Options that the server does not have skip a test.
"""

import asyncio
import importlib
import logging
import socket
import sys
import unittest
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tornado.testing
from tornado.httpserver import _CallableAdapter
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.log import gen_log
from tornado.netutil import bind_sockets

from slowpool.http.connection import Limits
from slowpool.http.server import Server

LIMITS = {
    "max_header_size": "head_bytes",
    "max_body_size": "body_bytes",
    "idle_connection_timeout": "idle_seconds",
}
"""Option of Tornado's server -> the limit."""

DIFFERENT = {
    "HTTPConnectionTest.test_newlines": "a bare line feed is no line end, as in Tornado from 6.7 on",
}
"""Tests that must fail, and why."""


class HTTPServer:
    """slowpool's server with the interface of Tornado's, as far as the tests use it."""

    def __init__(self, application: Any, **options: Any) -> None:
        options.pop("xheaders", None)  # slowpool's server always has it
        limits = {LIMITS[name]: options.pop(name) for name in [*options] if name in LIMITS}
        if options:
            raise unittest.SkipTest(f"slowpool's server has no {', '.join(options)}")
        if not isinstance(application, HTTPServerConnectionDelegate):
            application = _Callable(application)
        self._server = Server(application, Limits(**limits))

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listener in sockets:
            self.add_socket(listener)

    def add_socket(self, listener: socket.socket) -> None:
        asyncio.get_event_loop().call_soon(self._server.listen, listener)

    def listen(self, port: int, address: str | None = None) -> None:
        self.add_sockets(bind_sockets(port, address))

    def stop(self) -> None:
        self._stopping = asyncio.ensure_future(self._server.stop_listening())

    async def close_all_connections(self) -> None:
        await self._server.close_all()


class _Callable(HTTPServerConnectionDelegate):
    def __init__(self, callback: Callable[..., None]) -> None:
        self._callback = callback

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _CallableAdapter(self._callback, request_conn)


class ExpectLog(tornado.testing.ExpectLog):
    """Expects a refusal to be logged as a malformed message, whatever else is said of it."""

    def __init__(self, logger: Any, regex: Any, *args: Any, **options: Any) -> None:
        if logger is gen_log:
            regex = f"({regex})|Malformed HTTP message"
        super().__init__(logger, regex, *args, **options)


def _tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests, without those that measure times."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _tests(test)
        elif not test.id().endswith("_scaling"):
            yield test


def main(name: str, loop: str = "asyncio") -> int:
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    module = importlib.import_module(f"tornado.test.{name}")
    setattr(tornado.testing, "HTTPServer", HTTPServer)  # noqa: B010  # mypy refuses an assignment
    for name, substitute in {"HTTPServer": HTTPServer, "ExpectLog": ExpectLog}.items():
        if hasattr(module, name):
            setattr(module, name, substitute)
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    suite = unittest.TestSuite(
        test for test in _tests(unittest.defaultTestLoader.loadTestsFromModule(module))
    )
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    wrong = {
        ".".join(str(test.id()).split(".")[-2:]).split(" ")[0]
        for test, _ in [*result.failures, *result.errors]
    }
    print(f"{result.testsRun} tests, {len(result.skipped)} skipped, different: {sorted(wrong)}")
    return 0 if wrong <= DIFFERENT.keys() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
