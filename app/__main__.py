"""``python -m app --pool=fast --port=8001``: one instance; ``python -m app status``: how all of them are."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from app import capacity, logs, sandbox, terminal, tracing
from app.config import Config, Instance, Pool
from app.errors import ConfigError
from app.server import serve

log = logging.getLogger("slowpool")

CONFIG_ERROR = 2
"""Exit status for a wrong setting or command line, as argparse's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one instance until it is told to stop, or another command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["status"]:
        return terminal.main(arguments[1:])
    if arguments[:1] == ["capacity"]:
        return capacity.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Run one slowpool instance. Settings: see the README.",
        epilog="python -m app status shows how all instances are, python -m app capacity how many a load "
        "needs; see their --help.",
    )
    parser.add_argument("--pool", type=Pool, choices=list(Pool), required=True)
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--address", default="127.0.0.1", help="to listen on (%(default)s)")
    parser.add_argument("--replica", default="", help="what tells it from those of other containers")
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    options = parser.parse_args(arguments)

    try:
        config = Config.load()
        instance = Instance(options.pool, options.port, options.address, options.replica)
        logs.set_up(config, instance.pool, str(instance))
        if config.slow_sandbox and instance.pool is not Pool.FAST and not options.reload:
            config = _enter_sandbox(config)  # before there are threads, which would not be in it
        tracing.set_up(config, instance)
        asyncio.run(serve(config, instance, reload=options.reload))
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return CONFIG_ERROR
    return 0


def _enter_sandbox(config: Config) -> Config:
    """The workers' sandbox for the instance too: it unpickles what they answer, so it runs what they want.

    Returns the settings, without the sandbox where the system refuses it, as some emulators do.
    """
    try:
        if not sandbox.enter():
            log.info("there is no Landlock here: a task can signal and read other processes of the same user")
    except OSError as error:
        log.warning("there is no sandbox, the system refuses it: %s", error.strerror)
        return config.model_copy(update={"slow_sandbox": False})
    return config


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
