"""Actions: what an operator does, each at the instance that it is about."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from slowpool.config import Config, Pool
from slowpool.errors import BadArgument, CannotAct, NoAnswer, NotFound, RequestError
from slowpool.observe.untrusted import MAX_TEXT, Count, Seconds, printable, short_ascii
from slowpool.status.overview import LOOK_SECONDS, Overview
from slowpool.status.report import MAX_BYTES

ACT = "X-Slowpool-Act"
"""A header that a page of another site cannot send: the browser asks first, and is refused."""

USER = "X-Slowpool-User"
"""Who acts. On the admin port nginx sets it to the user of the password, if there is one."""

FORWARD_SECONDS = 10.0
"""How long another instance has to do its part."""

START_SECONDS = 75.0
"""How long an instance that has drained has to be ready again: the watchdog gives it 60 s."""

WHOLE_IDS = 16, 32
"""The length of the id of a job, and of an accepted one."""

CANCELLABLE = "running", "waiting_jobs"
"""The lists of an instance with jobs that can be cancelled."""

MOST_NAMED = 5

Json = dict[str, Any]

Printed = Annotated[str, AfterValidator(printable)]


class Stack(BaseModel):
    """Where a running job is, as another instance says: see StackHandler."""

    model_config = ConfigDict(strict=True)

    job: Printed
    task: Printed
    request_id: Printed
    route: Printed
    worker: Count
    seconds: Seconds
    stack: list[Printed]
    complete: bool


class Actions:
    """Acts on the instances of a deployment, of which ``own`` is this one's name, if it is one.

    An instance is a row of ``Overview.content()``, and a job a row of an instance. ``tell`` gets the kind of
    an event and what has happened. Every failure is a RequestError.
    """

    def __init__(self, config: Config, tell: Callable[[str, str], None], own: str = "") -> None:
        self._config = config
        self._tell = tell
        self._own = own
        self._rolls = False

    async def stack(self, job_id: str) -> Json:
        """Where a running job is."""
        instance, job = _the_job(await self._instances(), job_id, "running")
        answer = await self._ask(instance, f"/-/stack?job={quote(job['job'])}")
        try:
            return Stack.model_validate(answer).model_dump()
        except ValidationError as error:
            raise NoAnswer(f"{_at(instance)} does not answer with a stack") from error

    async def find(self, job_id: str) -> tuple[str, str]:
        """The id of a job that runs or waits, and how to call it; the id itself of what may be accepted."""
        try:
            instance, job = _the_job(await self._instances(), job_id, *CANCELLABLE)
        except NotFound:
            if len(job_id) not in WHOLE_IDS:
                raise
            return job_id, f"job {printable(job_id)}"
        return job["job"], f"job {job['job']} ({job['task']}) at {_at(instance)}"

    async def cancel(self, job_id: str, user: str) -> str:
        """End a job that runs or waits, or an accepted one; returns what was done."""
        instances = await self._instances()
        try:
            instance, job = _the_job(instances, job_id, *CANCELLABLE)
        except NotFound:
            if len(job_id) not in WHOLE_IDS:
                raise
        else:
            return await self._act(instance, f"cancel?job={quote(job['job'])}", user)
        for instance in instances:  # one whose waiting jobs are not known, or an accepted one
            if instance["state"] == "ready":
                with contextlib.suppress(NotFound):
                    return await self._act(instance, f"cancel?job={quote(job_id)}", user)
        raise NotFound("no job with this id runs, waits or is accepted")

    async def restart(self, name: str, address: str, user: str) -> str:
        """Have an instance drained and started again; returns what was done.

        The address may be empty where only one instance has the name.
        """
        instances = await self._instances()
        found = [one for one in instances if one["name"] == name and address in ("", one["address"])]
        if not found:
            raise NotFound(f"there is no such instance; there are {_named(map(_at, instances))}")
        if len(found) > 1:
            raise CannotAct(f"several have this name, say which: {_named(map(_at, found))}")
        return await self._act(found[0], "restart", user)

    async def roll(self, pool: Pool, user: str) -> tuple[str, "asyncio.Task[bool]"]:
        """Begin to restart the instances of a pool, one after the other, this one last.

        Returns what is done, and the task that does it; its result is whether all have come back.
        """
        if self._rolls:
            raise CannotAct("a roll is under way here; it has to end first")
        self._rolls = True
        try:
            order = await self._order(pool)
            asked_at = time.monotonic()
            await self._act(order[0], "restart", user)
        except BaseException:
            self._rolls = False
            raise
        self._rolling = asyncio.create_task(self._roll(pool, order, asked_at, user))
        return f"restarts the {len(order)} instances of the {pool} pool one at a time", self._rolling

    async def _roll(self, pool: Pool, order: list[Json], asked_at: float, user: str) -> bool:
        self._tell("roll", f"the {pool} pool is restarted for {user}: {_named(map(_at, order))}")
        number = 0
        try:
            for number, instance in enumerate(order):
                if number:
                    asked_at = time.monotonic()
                    await self._act(instance, "restart", user)
                if instance["is_own"]:
                    self._tell("roll", f"{_at(instance)} restarts, the last of the {pool} pool")
                    return True
                await self._wait_until_back(instance, asked_at)
                self._tell("roll", f"{_at(instance)} is ready again, {number + 1} of {len(order)}")
        except (RequestError, asyncio.CancelledError) as error:
            why = str(error) or "this instance stops"
            untouched = _named(map(_at, order[number + 1 :])) or "none"
            self._tell("roll", f"the restart of the {pool} pool has stopped: {why}; not touched: {untouched}")
            if isinstance(error, asyncio.CancelledError):
                raise
            return False
        finally:
            self._rolls = False
        return True

    async def _order(self, pool: Pool) -> list[Json]:
        """The instances of a pool, in the order of their restart. Raises CannotAct when one is not ready."""
        instances = [one for one in await self._instances() if one["pool"] == pool]
        for one in instances:
            if one["state"] != "ready":
                raise CannotAct(f"{_at(one)} is not ready, but {one['state']}: see its log, and try again")
        if not instances:
            raise NotFound(f"the {pool} pool has no instance")
        for one in instances:
            one["is_own"] = self._own != "" and await self._name(one) == self._own
        return sorted(instances, key=lambda one: one["is_own"])

    async def _wait_until_back(self, instance: Json, asked_at: float) -> None:
        """Return when an instance has started after this instant and is ready. Raises NoAnswer."""
        seconds = self._config.stop_wait_seconds + START_SECONDS
        with contextlib.closing(Overview(self._config)) as overview:
            while time.monotonic() < asked_at + seconds:
                await overview.look()
                now = time.monotonic()
                for one in overview.content()["instances"]:
                    is_it = _at(one) == _at(instance) and one["state"] == "ready"
                    if is_it and now - one["uptime_seconds"] > asked_at:
                        return
                await asyncio.sleep(LOOK_SECONDS / 2)
        raise NoAnswer(f"{_at(instance)} was not ready again within {seconds:g} s; its log says why")

    async def _instances(self) -> list[Json]:
        with contextlib.closing(Overview(self._config)) as overview:
            await overview.look()
            instances: list[Json] = overview.content()["instances"]
        return instances

    async def _act(self, instance: Json, action: str, user: str) -> str:
        asked_of = f"{user} at {self._own}" if self._own else user
        answer = await self._ask(instance, f"/-/act/{action}", "POST", asked_of)
        if not isinstance(text := answer.get("text"), str):
            raise NoAnswer(f"{_at(instance)} does not say what it has done")
        return printable(text)

    async def _name(self, instance: Json) -> str:
        """What an instance calls itself; it has its replica's name, which the overview does not know."""
        return str((await self._fetch(instance, "/-/livez")).headers.get("X-Served-By", ""))

    async def _ask(self, instance: Json, path: str, method: str = "GET", user: str = "") -> Json:
        """The JSON with which an instance answers. Raises its NotFound and CannotAct, and NoAnswer."""
        answer = await self._fetch(instance, path, method, user)
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        content = content if isinstance(content, dict) else {}
        if answer.code == 200:
            return content
        detail = printable(str(content.get("detail", answer.reason))[:MAX_TEXT])
        for error in (NotFound, CannotAct):
            if answer.code == error.status:
                raise error(detail)
        raise NoAnswer(f"{_at(instance)} answers {answer.code}: {detail}")

    async def _fetch(self, instance: Json, path: str, method: str = "GET", user: str = "") -> Any:
        request = HTTPRequest(
            f"http://{instance['address']}:{instance['port']}{path}",
            method,
            {ACT: "1", USER: short_ascii(user)},
            b"" if method == "POST" else None,
            request_timeout=FORWARD_SECONDS,
        )
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_BYTES)
        try:
            with contextlib.closing(client):
                return await client.fetch(request, raise_error=False)
        except (HTTPError, OSError) as error:
            raise NoAnswer(f"{_at(instance)} does not answer: {printable(str(error))}") from error


def _the_job(instances: list[Json], job_id: str, *kinds: str) -> tuple[Json, Json]:
    """The job whose id begins like this, or that has this request id, and its instance."""
    if not job_id:
        raise BadArgument("which job? Name it by the beginning of its id, or by its request id")
    found = [
        (instance, job)
        for instance in instances
        for kind in kinds
        for job in instance.get(kind, [])
        if job["job"] and (job["job"].startswith(job_id) or job["request_id"] == job_id)
    ]
    if not found:
        raise NotFound("no job that is known here has an id that begins like this, or this request id")
    if len(found) > 1:
        ids = _named(f"{job['job']} ({job['task']}, {_at(instance)})" for instance, job in found)
        raise CannotAct(f"several jobs are called so, say which: {ids}")
    return found[0]


def _at(instance: Json) -> str:
    return f"{instance['name']} at {instance['address']}"


def _named(names: Any) -> str:
    first, *others = [*names] or [""]
    more = len(others) - MOST_NAMED
    return ", ".join([first, *others[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])])
