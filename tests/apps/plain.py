"""``python -m tests.apps.plain MODULE:ATTRIBUTE --port=N``: an application under plain Tornado."""

import argparse
import asyncio
import importlib
import signal

from tornado.web import Application


async def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    module, _, attribute = arguments.app.partition(":")
    app: Application = getattr(importlib.import_module(module), attribute)()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with app.settings["lifespan"](app):
        app.listen(arguments.port, "127.0.0.1", xheaders=True)
        print("plain: is up", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
