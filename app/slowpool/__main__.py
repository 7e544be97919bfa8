"""The command ``slowpool``, and ``python -m slowpool``: run an instance, look at the running ones, act."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from slowpool import capacity, reload, server
from slowpool.config import Config, Instance, Pool
from slowpool.environment import export_file, in_environment
from slowpool.errors import AppError, ConfigError
from slowpool.linux import sandbox
from slowpool.mistyped import warn_of_mistyped
from slowpool.observe import logs, tracing
from slowpool.status import commands, terminal
from slowpool.web.load import load

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

    config = None
    try:
        config = Config.load()
        export_file()
        if "SUPERVISOR_ENABLED" not in in_environment():  # supervisor has printed it already
            warn_of_mistyped()
        instance = Instance(options.pool, options.port, options.address, options.replica)
        logs.set_up(config, instance.pool, str(instance))
        if config.slow_sandbox and instance.pool is not Pool.FAST and not options.reload:
            config = _enter_sandbox(config)  # a thread that is already running would stay outside
        tracing.set_up(config, instance)
        _run(server.serve(config, instance, reload=options.reload))
        server.release_signals()
    except ConfigError as error:
        if options.reload and config:
            return reload.wait_for_change(config.app, _text(error), error)
        print(_text(error), file=sys.stderr)
        return ConfigError.exit_status
    return 0


def check(arguments: Sequence[str]) -> int:
    """Check that the application can be loaded; ends the process with the exit status."""
    parser = argparse.ArgumentParser(prog="slowpool check", description="Try to load the application.")
    parser.parse_args(arguments)
    status = 0
    try:
        config = Config.load()
        export_file()
        _run(load(config.app))
    except ConfigError as error:
        print(_text(error), file=sys.stderr, flush=True)
        status = ConfigError.exit_status
    os._exit(status)  # a thread of the application would keep the process alive


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "serve": (run_instance, "run one instance"),
    "status": (terminal.main, "show all instances"),
    "jobs": (terminal.jobs, "show the jobs that run or wait"),
    "stack": (commands.stack, "show where a running job is"),
    "cancel": (commands.cancel, "end a job"),
    "restart": (commands.restart, "drain an instance and start it again"),
    "roll": (commands.roll, "restart the instances of a pool, one after the other"),
    "capacity": (capacity.main, "how many instances a load needs"),
    "check": (check, "check that the application can be loaded"),
}


def _run(main: Coroutine[Any, Any, object]) -> None:
    """Run it on uvloop, where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    handlers = {number: signal.getsignal(number) for number in server.SIGNALS}
    try:
        uvloop.run(main)
    except BaseException:
        for number, handler in handlers.items():  # uvloop leaves those that it has set
            signal.signal(number, handler)
        raise


def _text(error: ConfigError) -> str:
    """The error for people: a line, after the traceback where there is one."""
    return f"{error.traceback if isinstance(error, AppError) else ''}slowpool: {error}"


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
