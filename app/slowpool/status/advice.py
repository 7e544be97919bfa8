"""Hints: sentences that tell an operator what is wrong and what to do."""

import ipaddress
from typing import Any

from slowpool.config import Config
from slowpool.status.report import LearnedRoute

Json = dict[str, Any]

MOST_BLOCKING = 10
"""The most blocking routes to name."""


def hints(
    config: Config,
    pools: Json,
    instances: list[Json],
    blocks: dict[str, float],
    learned: dict[str, LearnedRoute],
) -> list[str]:
    """A sentence for each problem and its remedy, the worst first.

    ``blocks`` is the longest time, in seconds, for which a route has blocked a fast instance; ``learned`` has
    the routes that are handed over to the slow pool for that reason.
    """
    return [
        *_missing(config, pools),
        *_silent(config, instances),
        *_full(config, pools["slow"]),
        *_blocking(blocks, learned),
        *_failing(pools),
    ]


def _missing(config: Config, pools: Json) -> list[str]:
    return [
        f"No instance of the {name} pool answers: start one{_scale(config, name, 1)}"
        for name, pool in pools.items()
        if not pool["answering"]
    ]


def _silent(config: Config, instances: list[Json]) -> list[str]:
    found = []
    for instance in instances:
        name = f"{instance['name']} at {instance['address']}"
        log = f"docker compose logs {instance['pool']}" if _in_compose(config) else "the log"
        lost = instance["lost_seconds"]
        if instance["state"] == "no answer":
            found.append(
                f"{name} has not answered for {instance['silent_seconds']:.0f} s ({instance['error']}). It "
                f"restarts automatically if it has died or hangs; see {log}."
            )
        elif instance["state"] == "unreadable":
            found.append(
                f"{name} sends an unreadable report ({instance['error']}). If it runs another release, "
                f"update it to this one; otherwise see {log}."
            )
        elif lost is not None and lost < 60:
            found.append(f"{name} died and was restarted {lost:.0f} s ago; see {log}.")
    return found


def _full(config: Config, slow: Json) -> list[str]:
    is_full = slow["answering"] and slow["waiting"] >= slow["places"] and slow["running"] >= slow["workers"]
    if not slow["refused"] and not is_full:
        return []
    more = _scale(config, "slow", slow["instances"] // config.slow_processes + 1)
    return [
        f"The slow pool {'is' if is_full else 'was'} full: {slow['refused']} requests were refused in the "
        f"last minute. Scale it{more} where there are CPUs left; SLOW_QUEUE lets more of them wait."
    ]


def _blocking(blocks: dict[str, float], learned: dict[str, LearnedRoute]) -> list[str]:
    worst = sorted(blocks.items(), key=lambda block: (-block[1], block[0]))
    found = []
    for route, seconds in worst[:MOST_BLOCKING]:
        what = f"{route or 'Something other than a handler'} blocked its fast instance for {seconds:.2f} s"
        if route in learned:
            found.append(
                f"{what}, at {learned[route].line}. It goes to the slow pool for the next "
                f"{learned[route].left_seconds:.0f} s. To make it a job, move the work into a function and "
                "write: await slowpool.run(function, ...)"
            )
        else:
            found.append(
                f"{what}, and all other requests of it: run that work in the slow pool, with await "
                "slowpool.run(function, ...). The log has the line that did it."
            )
    if len(worst) > MOST_BLOCKING:
        found.append(f"{len(worst) - MOST_BLOCKING} more routes blocked a fast instance for less time.")
    return found


def _failing(pools: Json) -> list[str]:
    return [
        f"{pool['errors']} requests of the {name} pool failed in the last minute: the log says why."
        for name, pool in pools.items()
        if pool["errors"]
    ]


def _scale(config: Config, pool: str, count: int) -> str:
    if _in_compose(config):
        return f" with docker compose up -d --scale {pool}={count}"
    if not _is_address(config.fast_host):
        return ""
    processes = config.slow_processes if pool == "slow" else config.fast_processes
    return f" with {pool.upper()}_PROCESSES={processes * count} ./deploy/local"


def _in_compose(config: Config) -> bool:
    """Whether the pools are Compose services: other host names have a dot, such as tasks.fast."""
    return not _is_address(config.fast_host) and "." not in config.fast_host


def _is_address(host: str) -> bool:
    """Whether the host is localhost or an IP address, as in a local run."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
