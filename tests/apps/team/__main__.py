"""The application under plain Tornado."""

import asyncio
import signal

from tornado.options import define, options, parse_command_line

from tests.apps.team.main import make_app, resources

define("port", default=8888, type=int)
define("address", default="127.0.0.1")


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parse_command_line()
    app = make_app()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with resources(app):
        app.listen(options.port, options.address, xheaders=True)
        print("team: is up", flush=True)
        await stopped.wait()


asyncio.run(main())
