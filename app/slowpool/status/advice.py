"""Hints: sentences that tell an operator what is wrong and what to do."""

from typing import Any

from slowpool.config import Config
from slowpool.status.deployment import Deployment, Kind
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
    """A sentence for each problem and its remedy, the worst first. Commands are between backticks.

    ``blocks`` is the longest time, in seconds, for which a route has blocked a fast instance; ``learned`` has
    the routes that are handed over to the slow pool for that reason.
    """
    deployment = Deployment(config)
    return [
        *_missing(deployment, pools),
        *_silent(deployment, instances),
        *_full(config, deployment, pools["slow"]),
        *_blocking(blocks, learned),
        *_failing(deployment, pools),
    ]


def _missing(deployment: Deployment, pools: Json) -> list[str]:
    found = []
    for name, pool in pools.items():
        if pool["answering"]:
            continue
        why = f"No instance of the {name} pool answers: {deployment.log(name)} says why."
        if deployment.kind is Kind.LOCAL:
            why += f" If it does not run, start it with {deployment.start_local()}"
        elif not pool["instances"] and (command := deployment.scale(name, 1)):
            # Where instances hang, it would stop all but one of them.
            why += f" Only if it was scaled to 0, start one with {command}"
        found.append(why)
    return found


def _silent(deployment: Deployment, instances: list[Json]) -> list[str]:
    found = []
    for instance in instances:
        name = f"{instance['name']} at {instance['address']}"
        log = deployment.log(instance["pool"])
        error, lost = _quoted(instance["error"]), instance["lost_seconds"]
        if instance["state"] == "no answer":
            found.append(
                f"{name} has not answered for {instance['silent_seconds']:.0f} s ({error}). It "
                f"restarts automatically if it has died or hangs; see {log}."
            )
        elif instance["state"] == "unreadable":
            found.append(
                f"{name} sends an unreadable report ({error}). If it runs another release, "
                f"update it to this one; otherwise see {log}."
            )
        elif lost is not None and lost < 60:
            found.append(f"{name} died and was restarted {lost:.0f} s ago; see {log}.")
    return found


def _full(config: Config, deployment: Deployment, slow: Json) -> list[str]:
    is_full = slow["answering"] and slow["waiting"] >= slow["places"] and slow["running"] >= slow["workers"]
    if not slow["refused"] and not is_full:
        return []
    if deployment.kind is Kind.LOCAL:
        # More workers need no port that another program may have.
        workers = slow["workers"] // max(1, slow["answering"]) + 1
        command = deployment.start_local(SLOW_WORKERS=workers)
        remedy = (
            "give it more workers: stop ./deploy/local with Ctrl-C, and start it in the same terminal with "
            f"{command}"
        )
    else:
        command = deployment.scale("slow", slow["instances"] // config.slow_processes + 1)
        remedy = f"scale it{f' with {command}' if command else '.'}"
        if deployment.kind is Kind.KUBERNETES:
            remedy += " (with an autoscaler, raise its maxReplicas)"
    return [
        f"The slow pool {'is' if is_full else 'was'} full: it refused {_requests(slow['refused'])} in "
        "the last minute. SLOW_QUEUE lets more of them wait. Where there are CPUs left, " + remedy
    ]


def _blocking(blocks: dict[str, float], learned: dict[str, LearnedRoute]) -> list[str]:
    worst = sorted(blocks.items(), key=lambda block: (-block[1], block[0]))
    found = []
    for route, seconds in worst[:MOST_BLOCKING]:
        name = _quoted(route) or "Something other than a handler"
        what = f"{name} blocked its fast instance for {seconds:.2f} s"
        if route in learned:
            found.append(
                f"{what}, at {_quoted(learned[route].line)}. It goes to the slow pool for the next "
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


def _failing(deployment: Deployment, pools: Json) -> list[str]:
    return [
        f"{_requests(pool['errors'])} of the {name} pool failed in the last minute: "
        f"{deployment.log(name)} says why."
        for name, pool in pools.items()
        if pool["errors"]
    ]


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _quoted(text: str) -> str:
    """A text of an instance, which must not look like a command."""
    return text.replace("`", "'")
