"""``python -m tests.bench.forms [--unguarded]``: how long each hostile form holds up the loop that takes it.

Each is sent to a server in this process, whose selector notes the CPU time of every turn of the loop. That
is the wait of other requests on an idle machine. ``--unguarded`` measures only Tornado,
with its own limits; it takes some minutes.
"""

import argparse
import asyncio
import selectors
import threading
import time
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from slowpool.config import Config, Instance, Pool
from slowpool.http.forms import limit_parsing
from slowpool.instance import Runtime
from slowpool.web.host import Host
from tests.support.client import request
from tests.support.hostile_forms import HOSTILE


class _Selector(selectors.DefaultSelector):
    """Notes the longest time between two waits."""

    longest_seconds = 0.0
    _began = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.longest_seconds = max(self.longest_seconds, time.thread_time() - self._began)
        events = super().select(timeout)
        self._began = time.thread_time()
        return events


class _Handler(RequestHandler):
    def post(self) -> None:
        self.finish("taken")


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--unguarded", action="store_true", help="without the checks of an instance")
    options = parser.parse_args()
    if not options.unguarded:
        limit_parsing()
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]

    async def serve() -> None:
        application = Application([("/", _Handler)], log_function=lambda handler: None)
        host = Host(Runtime(Config.model_construct(), Instance(Pool.FAST, port)), application)
        HTTPServer(application if options.unguarded else host).add_sockets(sockets)

    loop.run_until_complete(serve())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    print(f"{'form':45} {'bytes':>10} {'status':>6} {'longest turn of the loop, ms':>30}")
    for form in HOSTILE:
        body = form.body()
        longest = []
        for _ in range(1 if options.unguarded else 3):
            selector.longest_seconds = 0
            status = request(port, "/", "POST", headers=form.headers, body=body, timeout=600).status
            request(port, "/", "POST")  # so that the turn before has been noted
            longest.append(selector.longest_seconds)
        print(f"{form.name:45} {len(body):10} {status:6} {min(longest) * 1000:30.1f}", flush=True)


if __name__ == "__main__":
    main()
