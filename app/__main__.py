"""``python -m app --pool=fast --port=8001``: one instance; ``python -m app status``: how all of them are."""

import argparse
import asyncio
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from app import application, capacity, logs, reloading, sandbox, terminal, tracing
from app.config import Config, Instance, Pool, name_mistyped
from app.errors import ConfigError
from app.server import serve

log = logging.getLogger("slowpool")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one instance until it is told to stop, or another command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["status"]:
        return terminal.main(arguments[1:])
    if arguments[:1] == ["capacity"]:
        return capacity.main(arguments[1:])
    if arguments == ["check"]:
        status = check()
        sys.stderr.flush()
        os._exit(status)  # a thread that the routes' module has started would keep it
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Run one slowpool instance. Settings: see the README.",
        epilog="python -m app status shows how all instances are, python -m app capacity how many a load "
        "needs; see their --help. python -m app check says whether the routes can be served.",
    )
    parser.add_argument("--pool", type=Pool, choices=list(Pool), required=True)
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--address", default="127.0.0.1", help="to listen on (%(default)s)")
    parser.add_argument("--replica", default="", help="what tells it from those of other containers")
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    options = parser.parse_args(arguments)

    try:
        config = Config.load()
        if "SUPERVISOR_ENABLED" not in Config.in_environment():  # else it has been said
            name_mistyped()
        instance = Instance(options.pool, options.port, options.address, options.replica)
        logs.set_up(config, instance.pool, str(instance))
        if options.reload and (trouble := _trouble(config, instance)):
            return reloading.wait_for_change(config.routes, *trouble)
        if config.slow_sandbox and instance.pool is not Pool.FAST and not options.reload:
            config = _enter_sandbox(config)  # before there are threads, which would not be in it
        tracing.set_up(config, instance)
        asyncio.run(serve(config, instance, reload=options.reload))
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return ConfigError.exit_status
    return 0


def check() -> int:
    """Load the routes as an instance does; returns the exit status, and says what is wrong with them."""
    try:
        config = Config.load()
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return ConfigError.exit_status
    if trouble := _trouble(config, Instance(Pool.ALL, config.fast_port)):
        print(trouble[0], file=sys.stderr)
        return ConfigError.exit_status
    return 0


def _trouble(config: Config, instance: Instance) -> tuple[str, BaseException] | None:
    """Why the routes cannot be served, for people, and as it was raised; None when they can."""
    try:
        application.make_app(config, instance)
    except ConfigError as error:
        return f"slowpool: {error}", error
    except (Exception, SystemExit) as error:
        frames = error.__traceback__
        while frames and _is_of_the_import(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        text = "".join(traceback.format_exception(type(error), error, frames))
        *_, last = traceback.format_exception_only(error)
        return f"{text}slowpool: ROUTES={config.routes} cannot be imported: {last.strip()}", error
    return None


def _is_of_the_import(file: str) -> bool:
    """Whether a frame is between here and the module of the routes."""
    return file.startswith("<frozen importlib") or file in (
        __file__,
        application.__file__,
        importlib.__file__,
    )


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
