"""Actions: what an operator does, each at the instance that it is about."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from slowpool.config import Config, Pool
from slowpool.errors import CannotAct, NoAnswer, NotFound, RequestError
from slowpool.observe.history import step_number
from slowpool.observe.untrusted import MAX_TEXT, Count, Seconds, printable, short_ascii
from slowpool.status.overview import LOOK_SECONDS, Overview
from slowpool.status.report import MAX_BYTES
from slowpool.status.which import CANCELLABLE, at, loss, may_be_accepted, named, the_instance, the_job

log = logging.getLogger("slowpool")

ACT = "X-Slowpool-Act"
"""A header that a page of another site cannot send: the browser asks first, and is refused."""

USER = "X-Slowpool-User"
"""Who acts. On the admin port nginx sets it to the user of the password, if there is one."""

FORWARD_SECONDS = 10.0
"""How long another instance has to do its part."""

START_SECONDS = 75.0
"""How long an instance that has drained has to be ready again: the watchdog gives it 60 s."""

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

    An instance is a row of an Overview, and a job a row of an instance. ``tell`` gets the kind of an event
    and what has happened. Every failure is a RequestError.
    """

    def __init__(self, config: Config, tell: Callable[[str, str], None], own: str = "") -> None:
        self._config = config
        self._tell = tell
        self._own = own
        self._rolls = False

    async def stack(self, job_id: str) -> Json:
        """Where a running job is."""
        instance, job = the_job(await self._instances(), job_id, "running")
        answer = await self._ask(instance, f"/-/stack?job={quote(job['job'])}")
        try:
            return Stack.model_validate(answer).model_dump()
        except ValidationError as error:
            raise NoAnswer(f"{at(instance)} does not answer with a stack") from error

    async def find(self, job_id: str) -> tuple[str, str]:
        """What to cancel, and how to call it: the id of a job that runs or waits, or that may be accepted."""
        instances = await self._instances()
        is_unknown = may_be_accepted(instances, job_id)
        try:
            instance, job = the_job(instances, job_id, *CANCELLABLE)
        except (NotFound, CannotAct):
            if is_unknown:
                return job_id, f"job {job_id}"
            raise
        name = f"job {job['job']} ({job['task']}) at {at(instance)}"
        return (job_id, f"the accepted job {job_id}, or else {name}") if is_unknown else (job["job"], name)

    async def cancel(self, job_id: str, user: str) -> str:
        """End a job that runs or waits, or an accepted one; returns what was done."""
        instances = await self._instances()
        if may_be_accepted(instances, job_id) and (
            done := await self._cancel_unknown(instances, job_id, user)
        ):
            return done
        instance, job = the_job(instances, job_id, *CANCELLABLE)
        return await self._act(instance, f"cancel?job={quote(job['job'])}", user)

    async def find_instance(self, name: str, address: str) -> str:
        """How to call the instance that ``restart`` would restart, and what that costs."""
        instances = await self._instances()
        instance = the_instance(instances, name, address)
        return at(instance) + loss(instances, instance)

    async def restart(self, name: str, address: str, user: str) -> str:
        """Have an instance drained and started again; returns what was done.

        The address may be empty where only one instance has the name.
        """
        instances = await self._instances()
        instance = the_instance(instances, name, address)
        return await self._act(instance, "restart", user) + loss(instances, instance)

    async def find_pool(self, pool: Pool) -> str:
        """How to call what ``roll`` restarts. Raises NotFound and CannotAct."""
        return _all_of(await self._all_ready(pool))

    async def roll(self, pool: Pool, user: str) -> tuple[str, "asyncio.Task[bool]"]:
        """Begin to restart the instances of a pool, one after the other, this one last.

        Returns what is done, and the task that does it; its result is whether all have come back.
        """
        if self._rolls:
            raise CannotAct("a roll is under way here; it has to end first")
        self._rolls = True
        try:
            order = await self._all_ready(pool)
            for one in order:
                one["is_own"] = self._own != "" and await self._name(one) == self._own
            order.sort(key=lambda one: one["is_own"])
            asked_at = time.monotonic()
            await self._act(order[0], "restart", user)
        except BaseException:
            self._rolls = False
            raise
        rolling = asyncio.create_task(self._roll(pool, order, asked_at, user))
        return f"restarts {_all_of(order)}", rolling

    async def _roll(self, pool: Pool, order: list[Json], asked_at: float, user: str) -> bool:
        self._tell("roll", f"the {pool} pool is restarted for {user}: {named(map(at, order))}")
        number = 0
        try:
            for number, instance in enumerate(order):
                if number:
                    asked_at = time.monotonic()
                    await self._act(instance, "restart", user)
                if instance["is_own"]:
                    self._tell("roll", f"{at(instance)} restarts, the last of the {pool} pool")
                    return True
                await self._wait_until_back(instance, asked_at)
                self._tell("roll", f"{at(instance)} is ready again, {number + 1} of {len(order)}")
        except BaseException as error:
            untouched = named(map(at, order[number + 1 :]))
            why = self._why(error)
            self._tell("roll", f"the restart of the {pool} pool has stopped: {why}; not touched: {untouched}")
            if isinstance(error, RequestError):
                return False
            if isinstance(error, Exception):
                log.exception("the restart of the %s pool has stopped", pool)
            raise
        finally:
            self._rolls = False
        return True

    def _why(self, error: BaseException) -> str:
        """Why a roll has stopped."""
        if isinstance(error, asyncio.CancelledError):
            return "this instance stops" if self._own else "it was interrupted"
        return str(error) if isinstance(error, RequestError) else type(error).__name__

    async def _wait_until_back(self, instance: Json, asked_at: float) -> None:
        """Return when an instance has started after this instant, and its whole pool is ready.

        Raises NoAnswer when this takes too long.
        """
        seconds = self._config.stop_wait_seconds + START_SECONDS
        away: list[str] = []
        with contextlib.closing(self._overview()) as overview:
            while time.monotonic() < asked_at + seconds:
                await asyncio.sleep(LOOK_SECONDS / 2)
                await overview.look()
                now = time.monotonic()
                pool = [one for one in overview.instances() if one["pool"] == instance["pool"]]
                away = [at(one) for one in pool if one["state"] != "ready"]
                if not away and any(
                    now - one["uptime_seconds"] > asked_at for one in pool if at(one) == at(instance)
                ):
                    return
        name = (away or [at(instance)])[0]
        raise NoAnswer(f"{name} was not ready again within {seconds:g} s; its log says why")

    async def _cancel_unknown(self, instances: list[Json], job_id: str, user: str) -> str:
        """Cancel an accepted job, or one that waits behind those in the reports; empty if there is none.

        Only slow instances can have it. Raises NoAnswer if one of those that might have it fails.
        """
        failure = None
        for instance in instances:
            if instance["pool"] == Pool.SLOW and not instance["error"]:
                try:
                    return await self._act(instance, f"cancel?job={job_id}", user)
                except NotFound:
                    pass
                except NoAnswer as error:
                    failure = failure or error
        if failure:
            raise failure
        return ""

    async def _all_ready(self, pool: Pool) -> list[Json]:
        """The instances of a pool. Raises CannotAct when one is not ready, and NotFound without any."""
        instances = [one for one in await self._instances() if one["pool"] == pool]
        for one in instances:
            if one["state"] != "ready":
                raise CannotAct(f"{at(one)} is not ready, but {one['state']}: see its log, and try again")
        if not instances:
            raise NotFound(f"the {pool} pool has no instance")
        return instances

    async def _instances(self) -> list[Json]:
        with contextlib.closing(self._overview()) as overview:
            await overview.look()
            return overview.instances()

    def _overview(self) -> Overview:
        """Of the instances and their jobs as they are now, without a history."""
        return Overview(self._config, since=step_number() + 1)

    async def _act(self, instance: Json, action: str, user: str) -> str:
        asked_of = f"{user} at {self._own}" if self._own else user
        answer = await self._ask(instance, f"/-/act/{action}", "POST", asked_of)
        if not isinstance(text := answer.get("text"), str):
            raise NoAnswer(f"{at(instance)} does not say what it has done")
        return printable(text)

    async def _name(self, instance: Json) -> str:
        """What an instance calls itself; it has its replica's name, which the overview does not know."""
        return str((await self._fetch(instance, "/-/livez")).headers.get("X-Served-By", ""))

    async def _ask(self, instance: Json, path: str, method: str = "GET", user: str = "") -> Json:
        """The JSON with which an instance answers. Raises its NotFound and CannotAct, and NoAnswer."""
        answer = await self._fetch(instance, path, method, user)
        try:
            content = json.loads(answer.body)
        except (ValueError, RecursionError):
            content = None
        content = content if isinstance(content, dict) else {}
        if answer.code == 200:
            return content
        detail = printable(str(content.get("detail", answer.reason))[:MAX_TEXT])
        for error in (NotFound, CannotAct):
            if answer.code == error.status:
                raise error(detail)
        raise NoAnswer(f"{at(instance)} answers {answer.code}: {detail}")

    async def _fetch(self, instance: Json, path: str, method: str = "GET", user: str = "") -> Any:
        request = HTTPRequest(
            f"http://{instance['address']}:{instance['port']}{path}",
            method,
            {ACT: "1", USER: short_ascii(user)},
            b"" if method == "POST" else None,
            request_timeout=FORWARD_SECONDS,
            follow_redirects=False,  # a hostile task could send the action to another instance
        )
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_BYTES)
        try:
            with contextlib.closing(client):
                return await client.fetch(request, raise_error=False)
        except ConnectionRefusedError as error:
            text = f"{at(instance)} accepts no connections: it drains, starts or has stopped; see its log"
            raise CannotAct(text) from error
        except (HTTPError, OSError) as error:
            raise NoAnswer(f"{at(instance)} does not answer: {printable(str(error))}") from error


def _all_of(order: list[Json]) -> str:
    """How to call all instances of a pool that are restarted, and what that costs."""
    pool = order[0]["pool"]
    if len(order) == 1:
        return f"the one instance of the {pool} pool{loss(order, order[0])}"
    return f"the {len(order)} instances of the {pool} pool one at a time"
