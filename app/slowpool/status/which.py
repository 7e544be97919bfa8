"""Which job or instance an operator means, and how it is called. An instance is a row of an Overview."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from slowpool.config import Pool
from slowpool.errors import BadArgument, CannotAct, NotFound

CANCELLABLE = "running", "waiting_jobs"
"""The lists of an instance with jobs that can be cancelled."""

WHOLE_ID = re.compile("[0-9a-f]{16}([0-9a-f]{16})?")
"""The id of a job, or of an accepted one."""

MOST_NAMED = 5

Json = dict[str, Any]


def the_job(instances: list[Json], called: str, *kinds: str) -> tuple[Json, Json]:
    """The instance and the job with this id, or else with one that begins like this, or with this request id.

    A client chooses its request id, so that comes last. Raises BadArgument, NotFound, and CannotAct when
    there are several.
    """
    if not called:
        raise BadArgument("which job? Name it by the beginning of its id, or by its request id")
    jobs = list(_jobs(instances, kinds))
    ranks = (
        [(instance, job) for instance, job in jobs if job["job"] == called],
        [(instance, job) for instance, job in jobs if job["job"].startswith(called)],
        [(instance, job) for instance, job in jobs if job["request_id"] == called],
    )
    found = next(filter(None, ranks), [])
    if not found:
        raise NotFound(f"no job is known by this id, beginning of an id or request id{_silent(instances)}")
    if len(found) > 1:
        ids = named(f"{job['job']} ({job['task']}, {at(instance)})" for instance, job in found)
        raise CannotAct(f"several jobs are called so, say which: {ids}")
    return found[0]


def may_be_accepted(instances: list[Json], job_id: str) -> bool:
    """Whether this is the whole id of a job, but of none in the reports."""
    known = {job["job"] for _, job in _jobs(instances, CANCELLABLE)}
    return WHOLE_ID.fullmatch(job_id) is not None and job_id not in known


def the_instance(instances: list[Json], name: str, address: str) -> Json:
    """The instance with this name, at this address if one is given. Raises NotFound and CannotAct."""
    found = [one for one in instances if one["name"] == name and address in ("", one["address"])]
    if not found:
        raise NotFound(f"there is no such instance; known are {named(map(at, instances))}")
    if len(found) > 1:
        raise CannotAct(f"several have this name, say which: {named(map(at, found))}")
    return found[0]


def loss(instances: list[Json], instance: Json) -> str:
    """What clients lose while an instance restarts; empty when another one of its pool is ready."""
    pool = instance["pool"]
    if any(one["pool"] == pool and one["state"] == "ready" and one is not instance for one in instances):
        return ""
    return f"; no other instance of the {pool} pool is ready: requests get 503 until it is back"


def at(instance: Json) -> str:
    """An instance as an operator sees it."""
    return f"{instance['name']} at {instance['address']}"


def named(names: Iterable[str]) -> str:
    """The first of these, and how many more there are."""
    first = [*names]
    more = len(first) - MOST_NAMED
    return ", ".join([*first[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]) or "none"


def _jobs(instances: list[Json], kinds: Iterable[str]) -> Iterator[tuple[Json, Json]]:
    """Each job of these kinds with its instance; an older instance tells no ids."""
    for instance in instances:
        for kind in kinds:
            yield from ((instance, job) for job in instance.get(kind, []) if job["job"])


def _silent(instances: list[Json]) -> str:
    """The slow instances whose jobs are not known: one that drains has closed its port."""
    silent = [at(one) for one in instances if one["pool"] == Pool.SLOW and one["error"]]
    return f"; no answer from {named(silent)}: if it drains, its jobs cannot be reached" if silent else ""
