"""An instance in the process of the test: what answers its requests."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

import demo
from slowpool.instance import Runtime, State
from slowpool.status.system import system_application
from slowpool.web.host import Host


def hosted(runtime: Runtime) -> Host:
    """The demo and the system routes of an instance that is ready, for an HTTPServer to serve."""
    runtime.system = system_application(runtime)
    runtime.state = State.READY
    return Host(runtime, demo.make_app())


@contextlib.asynccontextmanager
async def serving(runtimes: Iterable[Runtime]) -> AsyncIterator[None]:
    """Instances that serve, each on its port."""
    servers = []
    for runtime in runtimes:
        server = HTTPServer(hosted(runtime))
        server.add_sockets(bind_sockets(runtime.instance.port, "127.0.0.1", family=socket.AF_INET))
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.stop()
            await server.close_all_connections()
