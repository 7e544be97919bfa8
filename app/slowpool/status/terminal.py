"""``slowpool status`` and ``slowpool jobs``: the status page's figures in the terminal."""

import argparse
import asyncio
import contextlib
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from slowpool.config import Config, Pool
from slowpool.errors import ConfigError
from slowpool.local_run import Run
from slowpool.observe.events import Events
from slowpool.observe.news import ask
from slowpool.observe.peers import Peer
from slowpool.status import plain
from slowpool.status.overview import LOOK_SECONDS, Overview

Json = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Print the figures; returns 0, or 1 if an instance does not answer."""
    parser = argparse.ArgumentParser(
        prog="slowpool status",
        description="Show the state of all instances. Requests, p50 and p99 cover the last minute. The "
        "exit status is 1 if an instance does not answer.",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON, times in seconds")
    parser.add_argument("--watch", action="store_true", help="update each second until Ctrl-C")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(_show(running_config(), as_json=options.json, watch=options.watch))
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 0


def jobs(arguments: Sequence[str]) -> int:
    """Print the jobs; returns 0."""
    parser = argparse.ArgumentParser(
        prog="slowpool jobs",
        description="Show the jobs that run or wait, accepted jobs by state, and the last that have failed.",
    )
    parser.add_argument("--json", action="store_true", help="print them as JSON, times in seconds")
    options = parser.parse_args(arguments)
    try:
        content = asyncio.run(_look(running_config()))
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    if options.json:
        rows = plain.job_rows(content)
        listed = {state: [row for row in rows if row["state"] == state] for state in ("running", "waiting")}
        failures = [*content.get("failures", []), *content["failed_jobs"]]
        print(json.dumps({**listed, "accepted": content["pools"]["slow"]["accepted"], "failures": failures}))
    elif sys.stdout.isatty():
        from slowpool.status import tables

        tables.show(tables.jobs(content))
    else:
        print(plain.jobs(content))
    return 0


def running_config(*, acts: bool = False) -> Config:
    """The settings of what runs here, a local run or a container. Raises ConfigError.

    When only runs with another ``HTTP_PORT`` are here, says so; if it ``acts``, that is an error.
    Prepares the output too: errors of instances are shown, and not logged.
    """
    logging.disable(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal without full Unicode
    config = Config.load()
    if run := Run.find(config):
        if stale := run.stale(config):
            print(f"slowpool: {stale}", file=sys.stderr)
        config = run.config
    elif others := Run.others():
        if acts:
            raise ConfigError(others)
        print(f"slowpool: {others}", file=sys.stderr)
    return config


async def _look(config: Config) -> Json:
    with contextlib.closing(Overview(config)) as overview:
        await overview.look()
        return overview.content()


async def _look_at_all(overview: Overview, events: Events) -> Json:
    """The figures with the events, which an instance is asked for."""
    await overview.look()
    answering = [one for one in overview.instances() if not one["error"]]
    peers = [Peer(Pool(one["pool"]), one["address"], one["port"]) for one in answering]
    for news in await ask(overview.peers, peers, 1):
        events.merge(news.events)
    return overview.content()


async def _show(config: Config, *, as_json: bool, watch: bool) -> int:
    with contextlib.ExitStack() as parts:
        show = parts.enter_context(_shown(as_json=as_json, watch=watch))
        events = Events()
        overview = parts.enter_context(contextlib.closing(Overview(config, events)))
        while True:
            next_at = time.monotonic() + LOOK_SECONDS
            content = await _look_at_all(overview, events)
            show(content)
            if not watch:
                return _exit_status(content)
            await asyncio.sleep(max(0, next_at - time.monotonic()))


@contextlib.contextmanager
def _shown(*, as_json: bool, watch: bool) -> Iterator[Callable[[Json], None]]:
    """How figures are shown: as text that stays the same, or as tables where there is a terminal."""
    if as_json or not sys.stdout.isatty():
        write = json.dumps if as_json else plain.status
        yield lambda content: print(write(content), flush=True)
        return
    from slowpool.status import tables

    if watch:
        with tables.live() as screen:
            yield lambda content: screen.update(tables.status(content), refresh=True)
    else:
        yield lambda content: tables.show(tables.status(content))


def _exit_status(content: Json) -> int:
    return int(any(pool["answering"] < (pool["instances"] or 1) for pool in content["pools"].values()))
