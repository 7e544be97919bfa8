"""``slowpool stack``, ``cancel``, ``restart`` and ``roll``: an operator acts, from a terminal."""

import argparse
import asyncio
import os
import pwd
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

from slowpool.config import Pool
from slowpool.errors import ConfigError, RequestError
from slowpool.observe.news import tell
from slowpool.status.act import Actions
from slowpool.status.plain import duration
from slowpool.status.terminal import running_config

WHICH = "the beginning of its id, or its request id; slowpool jobs has them"

LOSS = "No request is lost while the pool has another ready instance."

USAGE = 2
"""The exit status of a command line that is wrong."""


def stack(arguments: Sequence[str]) -> int:
    """Print the stack of a running job; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="slowpool stack",
        description="Show where a running job is at this moment. It goes on undisturbed.",
    )
    parser.add_argument("job", metavar="ID", help=WHICH)
    options = parser.parse_args(arguments)

    async def act(actions: Actions) -> int:
        told = await actions.stack(options.job)
        print(f"{told['task']} in worker {told['worker']}, for {duration(told['seconds'])}: {told['route']}")
        for line in told["stack"]:
            print(f"  {line}")
        if not told["complete"]:
            print("  … the worker did not tell all of it in time")
        return 0

    return _run(act)


def cancel(arguments: Sequence[str]) -> int:
    """Cancel a job; returns the exit status."""
    parser = _asking("cancel", "End a job: its worker is killed, or it leaves the queue. Its request fails.")
    parser.add_argument("job", metavar="ID", help=f"{WHICH}; the whole id of an accepted job")
    options = parser.parse_args(arguments)

    async def act(actions: Actions) -> int:
        job_id, name = await actions.find(options.job)
        if not options.yes and not _confirm(f"cancel {name}"):
            return 1
        print(await actions.cancel(job_id, _user()))
        return 0

    return _run(act, asks=not options.yes)


def restart(arguments: Sequence[str]) -> int:
    """Restart an instance; returns the exit status."""
    parser = _asking("restart", f"Drain an instance and start it again. {LOSS}")
    parser.add_argument("instance", metavar="INSTANCE", help="such as fast:8001")
    parser.add_argument("--address", default="", help="where several replicas have an instance of this name")
    options = parser.parse_args(arguments)

    async def act(actions: Actions) -> int:
        which = options.instance, options.address
        if not options.yes and not _confirm(f"restart {await actions.find_instance(*which)}"):
            return 1
        print(await actions.restart(*which, _user()))
        return 0

    return _run(act, asks=not options.yes)


def roll(arguments: Sequence[str]) -> int:
    """Restart the instances of a pool, one after the other; returns the exit status."""
    parser = _asking("roll", f"Restart the instances of a pool, of all replicas, one after the other. {LOSS}")
    parser.add_argument(
        "pool", metavar="POOL", choices=[Pool.FAST.value, Pool.SLOW.value], help="fast or slow"
    )
    options = parser.parse_args(arguments)

    async def act(actions: Actions) -> int:
        pool = Pool(options.pool)
        if not options.yes and not _confirm(f"restart {await actions.find_pool(pool)}"):
            return 1
        _, rolling = await actions.roll(pool, _user())
        return 0 if await rolling else 1

    return _run(act, asks=not options.yes)


def _asking(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"slowpool {command}", description=description)
    parser.add_argument(
        "--yes", action="store_true", help="do not ask first; without a terminal it is needed"
    )
    return parser


def _run(act: Callable[[Actions], Awaitable[int]], *, asks: bool = False) -> int:
    """Run it; a failure is a sentence and exit status 1."""
    if asks and not sys.stdin.isatty():
        print("slowpool: there is no terminal on which to ask first: add --yes", file=sys.stderr)
        return USAGE

    async def run() -> int:
        config = running_config(acts=True)

        def note(kind: str, text: str) -> None:
            print(text, flush=True)
            # In a thread, which asyncio.run waits for: it is told after Ctrl-C too.
            asyncio.get_running_loop().run_in_executor(None, tell, config, kind, "", text)

        return await act(Actions(config, note))

    try:
        return asyncio.run(run())
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return error.exit_status
    except RequestError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _confirm(what: str) -> bool:
    # asyncio has a handler of its own, with which Ctrl-C would wait for Enter.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(f"{what}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
    finally:
        signal.signal(signal.SIGINT, handler)


def _user() -> str:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container
        name = f"user {os.getuid()}"
    return f"{name} in a terminal"
