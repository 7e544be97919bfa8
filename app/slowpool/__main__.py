"""The command ``slowpool``, and ``python -m slowpool``: run an instance, or show the running ones."""

import argparse
import asyncio
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from slowpool import capacity, reload, server
from slowpool.config import Config, Instance, Pool
from slowpool.environment import in_environment
from slowpool.errors import ConfigError
from slowpool.linux import sandbox
from slowpool.mistyped import warn_of_mistyped
from slowpool.observe import logs, tracing
from slowpool.status import terminal
from slowpool.web import routes

log = logging.getLogger("slowpool")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # the console script leaves it out, and `python -m` does not
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in COMMANDS:
        run, _ = COMMANDS[given[0]]
        return run(given[1:])
    parser = argparse.ArgumentParser(
        prog="slowpool",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tornado in two pools, so that a slow request holds up no other.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
        + "\n\nslowpool COMMAND --help shows the options of a command.",
    )
    parser.add_argument("command", choices=list(COMMANDS))
    parser.parse_args(given[:1])
    return 0


def run_instance(arguments: Sequence[str]) -> int:
    """Run one instance until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="slowpool serve",
        description="Run one instance. The settings are environment variables, or lines of a file .env.",
    )
    parser.add_argument("--pool", type=Pool, choices=list(Pool), required=True)
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--address", default="127.0.0.1", help="to listen on (%(default)s)")
    parser.add_argument(
        "--replica", default="", help="name of the container, which tells its instances from others"
    )
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    options = parser.parse_args(arguments)

    try:
        config = Config.load()
        if "SUPERVISOR_ENABLED" not in in_environment():  # supervisor has printed it already
            warn_of_mistyped()
        instance = Instance(options.pool, options.port, options.address, options.replica)
        logs.set_up(config, instance.pool, str(instance))
        if options.reload and (trouble := _trouble(config, instance)):
            return reload.wait_for_change(config.routes, *trouble)
        if config.slow_sandbox and instance.pool is not Pool.FAST and not options.reload:
            config = _enter_sandbox(config)  # a thread that is already running would stay outside
        tracing.set_up(config, instance)
        asyncio.run(server.serve(config, instance, reload=options.reload))
        server.release_signals()
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return ConfigError.exit_status
    return 0


def check(arguments: Sequence[str]) -> int:
    """Check that the routes can be served; ends the process with the exit status."""
    parser = argparse.ArgumentParser(prog="slowpool check", description="Try to load the routes.")
    parser.parse_args(arguments)
    status = _check()
    sys.stderr.flush()
    os._exit(status)  # a thread of the routes' module would keep the process alive


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "serve": (run_instance, "run one instance"),
    "status": (terminal.main, "show all instances"),
    "capacity": (capacity.main, "how many instances a load needs"),
    "check": (check, "check that the routes can be served"),
}


def _check() -> int:
    """Load the routes as an instance does; prints what is wrong and returns the exit status."""
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
    """Why the routes cannot be served, as text and as an exception; None when they can."""
    try:
        server.assemble(config, instance)
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
    """Whether a frame is between this module and that of the routes."""
    return file.startswith("<frozen importlib") or file in (
        __file__,
        server.__file__,
        routes.__file__,
        importlib.__file__,
    )


def _enter_sandbox(config: Config) -> Config:
    """Enter the workers' sandbox too: a pickle from a worker can run any code in this process.

    Returns the settings, with the sandbox turned off where the system refuses it, as some emulators do.
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
