"""``python -m tests.bench.peers.many_ports PORT COUNT``: one fast instance that listens on many ports.

So nginx can be measured with many upstream servers on a machine that has not the memory for so many.
"""

import asyncio
import logging
import sys

from tornado.httpserver import HTTPServer

from slowpool.config import Config, Instance, Pool
from slowpool.instance import Runtime
from tests.support.hosted import hosted


async def main() -> None:
    logging.disable()
    first, count = map(int, sys.argv[1:])
    runtime = Runtime(Config.load(), Instance(Pool.FAST, first))
    server = HTTPServer(hosted(runtime), xheaders=True)
    for port in range(first, first + count):
        server.listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
