"""The routes by which an operator acts: on this instance, and through it on all others.

A page of another site cannot use them: they need a header that it cannot send, and refuse its origin.
"""

import functools
import json
import logging
from typing import Any

from slowpool.config import Pool, supervised_dir
from slowpool.errors import BadArgument, CannotAct, ForeignPage, NotFound
from slowpool.instance import Runtime, State
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.status.act import ACT, USER, Actions
from slowpool.status.handlers import Handler

log = logging.getLogger("slowpool")

OWN_SITES = "same-origin", "none"
"""``Sec-Fetch-Site`` of a page of this server, and of a user. Another port of this machine is "same-site"."""


def note(runtime: Runtime, kind: str, text: str, **extra: object) -> None:
    """Keep what has been done, and by whom."""
    log.info("%s", text, extra={"kind": kind, **extra})
    runtime.events.add(kind, text)


class ActHandler(Handler):
    """A route that a page of another site must not use."""

    def prepare(self) -> None:
        headers = self.request.headers
        if headers.get(ACT) != "1":
            raise ForeignPage(f"an action needs the header {ACT}: 1")
        _, _, origin = headers.get("Origin", f"http://{self.request.host}").partition("://")
        is_own = origin.lower() == self.request.host.lower()
        if not is_own or headers.get("Sec-Fetch-Site", "none") not in OWN_SITES:
            raise ForeignPage("a page of another site must not act: open the status page itself")
        self.set_header("Cache-Control", "no-store")

    @property
    def user(self) -> str:
        """Who acts, as far as it is known."""
        return printable(self.request.headers.get(USER, "")[:MAX_TEXT]) or "an operator"


class CancelHandler(ActHandler):
    """Ends a job of this instance, or an accepted one of its store."""

    async def post(self) -> None:
        runtime, job_id = self.application.runtime, self.get_query_argument("job", "")
        if not job_id:
            raise BadArgument("which job? Ask for /-/act/cancel?job=ID; the status page has the ids")
        workers = runtime.workers
        jobs = [job for job in [*workers.running_jobs, *workers.waiting_jobs] if not job.outcome.done()]
        job = next((job for job in jobs if job.id == job_id), None)
        extra = {"request_id": job.request_id, "route": job.route} if job else {}
        if job and not job.accepted:
            workers.cancel(job)
            text = f"job {job.id} was cancelled"
        elif runtime.acceptor:
            text = f"job {await runtime.acceptor.cancel_for_operator(job_id)} was cancelled"
        else:
            raise NotFound("no job with this id runs or waits in this instance")
        note(runtime, "act", f"{text} by {self.user}", job=job_id, user=self.user, **extra)
        self.finish({"text": f"{printable(text)} at {runtime.name}"})


class RestartHandler(ActHandler):
    """Has the watchdog drain this instance and start it again: a slow one cannot reach supervisor."""

    def post(self) -> None:
        runtime = self.application.runtime
        if supervised_dir() is None:
            raise CannotAct(f"{runtime.name} runs without supervisor: stop it, and start it again yourself")
        if runtime.state is not State.READY or runtime.heartbeat.wants_restart:
            raise CannotAct(f"{runtime.name} is about to stop already")
        if not runtime.heartbeat.ask_for_restart():
            raise CannotAct(
                f"{runtime.name} cannot reach the watchdog: its heartbeat file cannot be written; "
                "use deploy/rolling-restart"
            )
        note(runtime, "act", f"{runtime.name} restarts for {self.user}", user=self.user)
        text = f"{runtime.name} will be drained and started again, after any other of its replica"
        self.finish({"text": text})


class ActionHandler(ActHandler):
    """Does what the page asks for, at the instance that it is about."""

    def initialize(self, actions: Actions) -> None:
        self._actions = actions

    async def post(self) -> None:
        match self._wish():
            case {"action": "cancel", "job": str(job_id)}:
                text = await self._actions.cancel(job_id, self.user)
            case {"action": "restart", "instance": str(name), "address": str(address)}:
                text = await self._actions.restart(name, address, self.user)
            case {"action": "roll", "pool": "fast" | "slow" as pool}:
                roll = await self._actions.roll(Pool(pool), self.user)
                text, self.application.runtime.rolling = roll
                self.set_status(202)
            case _:
                raise BadArgument(
                    'the body is {"action": "cancel", "job": ID}, {"action": "restart", "instance": '
                    '"fast:8001", "address": "10.0.0.2"} or {"action": "roll", "pool": "slow"}'
                )
        self.finish({"text": text})

    def _wish(self) -> Any:
        try:
            return json.loads(self.request.body)
        except (ValueError, RecursionError):
            return None


class AnyStackHandler(ActHandler):
    """Where a running job is, in whichever instance it runs."""

    def initialize(self, actions: Actions) -> None:
        self._actions = actions

    async def get(self) -> None:
        self.finish(await self._actions.stack(self.get_query_argument("job", "")))


def routes(runtime: Runtime) -> list[tuple[Any, ...]]:
    """The system routes of this room."""
    actions = {"actions": Actions(runtime.config, functools.partial(note, runtime), runtime.name)}
    return [
        (r"/-/act/cancel", CancelHandler),
        (r"/-/act/restart", RestartHandler),
        (r"/-/status/act", ActionHandler, actions),
        (r"/-/status/stack", AnyStackHandler, actions),
    ]
