"""The public routes of accepted jobs: status, answer, events, cancelling."""

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import Application

from slowpool import instance
from slowpool.errors import RETRY_NOW_SECONDS, CannotAccept, Conflict, Gone, NotFound
from slowpool.instance import Runtime
from slowpool.jobs.acceptor import STORE_SECONDS, Acceptor
from slowpool.jobs.document import PREFIX, document
from slowpool.jobs.record import Event, State, Status
from slowpool.jobs.store import Expired, StoreError
from slowpool.web.problems import ProblemHandler

POLL_SECONDS = 0.3
"""How often a client that follows a job gets what is new."""

PING_SECONDS = 15
"""Keeps a quiet stream of events open: nginx waits longer."""


def job_routes(
    runtime: Runtime, acceptor: Acceptor, app: Application
) -> Callable[[HTTPServerRequest], tuple[HTTPMessageDelegate, str] | None]:
    """See Runtime.find_job_handler. The handlers have the application's settings, as its cookie secret."""
    job = PREFIX + "([^/]+)"
    handlers = [
        (re.compile(job), StatusHandler, f"{PREFIX}{{}}"),
        (re.compile(f"{job}/result"), ResultHandler, f"{PREFIX}{{}}/result"),
        (re.compile(f"{job}/events"), EventsHandler, f"{PREFIX}{{}}/events"),
    ]
    arguments = {"runtime": runtime, "acceptor": acceptor}

    def find(request: HTTPServerRequest) -> tuple[HTTPMessageDelegate, str] | None:
        if not request.path.startswith(PREFIX):
            return None
        for pattern, handler, route in handlers:
            if match := pattern.fullmatch(request.path):
                return app.get_handler_delegate(request, handler, arguments, [match[1].encode()]), route
        return None

    return find


class JobHandler(ProblemHandler):
    """A handler that finds a job, if the client may see it."""

    def initialize(self, runtime: Runtime, acceptor: Acceptor) -> None:
        self.runtime = runtime
        self.acceptor = acceptor
        self.store = acceptor.store
        self.gone = asyncio.Event()

    def on_connection_close(self) -> None:
        self.gone.set()

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> None:
        """Nothing of it is cached."""

    def check_xsrf_cookie(self) -> None:
        """A page of another site cannot send a DELETE that has not been allowed (CORS)."""

    async def find(self, job_id: str) -> Status:
        """The job. Raises NotFound, Gone and CannotAccept."""
        try:
            status = await self.store.status(job_id)
        except Expired as error:
            raise Gone("the job has expired: its answer was kept for JOB_RESULT_SECONDS") from error
        except StoreError as error:
            raise CannotAccept("accepted jobs cannot be read now; try again", STORE_SECONDS) from error
        if status is None or (status.owner and status.owner != await self.acceptor.owner(self)):
            raise NotFound("there is no such job")
        return status

    def send(self, status: Status) -> None:
        """Answer with the job's status."""
        if not status.state.is_final:
            self.set_header("Retry-After", str(RETRY_NOW_SECONDS))
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document(self.runtime, status)))


class StatusHandler(JobHandler):
    """The status of a job; DELETE cancels it."""

    async def get(self, job_id: str) -> None:
        self.send(await self.find(job_id))

    head = get

    async def delete(self, job_id: str) -> None:
        await self.find(job_id)
        try:
            await self.acceptor.cancel(job_id)
        except (StoreError, Expired) as error:
            raise CannotAccept("the job cannot be cancelled now; try again", STORE_SECONDS) from error
        self.set_status(204)


class ResultHandler(JobHandler):
    """What the application has answered."""

    async def get(self, job_id: str) -> None:
        status = await self.find(job_id)
        if not status.state.is_final:
            raise Conflict(f"the job is {status.state}: there is no answer yet")
        try:
            answer = await self.store.answer(job_id)
        except (StoreError, Expired) as error:
            raise CannotAccept("accepted jobs cannot be read now; try again", STORE_SECONDS) from error
        if answer is None:
            why = f": {status.error}" if status.error else ""
            raise Gone(f"the job is {status.state} and has no answer{why}")
        self.clear_header("Content-Type")
        self.set_status(answer.status)
        for name, value in answer.headers:
            self.add_header(name, value)
        self.set_header("Cache-Control", "no-store")
        self.finish(answer.body if answer.status not in (204, 304) else None)

    head = get


class EventsHandler(JobHandler):
    """What happens to a job, as server-sent events; ``Last-Event-ID`` is the last one that the client has."""

    async def get(self, job_id: str) -> None:
        status = await self.find(job_id)
        after = _last_event_id(self.request.headers.get("Last-Event-ID", ""))
        if status.state.is_final and after >= status.change:
            self.set_status(204)  # tells an EventSource not to connect again
            return
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        if self.request.method == "HEAD":
            return
        self.write("retry: 1000\n\n")
        try:
            await self.flush()
            await self._follow(status, after)
        except StreamClosedError:
            return

    head = get

    async def _follow(self, status: Status, after: int) -> None:
        """Send what has happened, and what happens until the job has ended or this instance drains."""
        place: int | None = None
        quiet_seconds = 0.0
        while not self.gone.is_set() and not instance.draining.is_set():
            try:
                events = await self.store.events(status.id, after)
                if events or status.state is State.WAITING:
                    status = await self.store.status(status.id) or status
            except (StoreError, Expired):
                return  # the client connects again
            for event in events:
                after = event.change
                self._send(_at(status, event))
            new_place = status.ahead if status.state is State.WAITING else None
            if not events and new_place != place:
                self._send(status)
            if events or new_place != place:
                quiet_seconds = 0
                await self.flush()
            place = new_place
            if status.state.is_final and after >= status.change:
                return
            await asyncio.sleep(POLL_SECONDS)
            quiet_seconds += POLL_SECONDS
            if quiet_seconds >= PING_SECONDS:
                quiet_seconds = 0
                self.write(": \n\n")
                await self.flush()

    def _send(self, status: Status) -> None:
        self.write(f"id: {status.change}\ndata: {json.dumps(document(self.runtime, status))}\n\n")


def _at(status: Status, event: Event) -> Status:
    """A job as it was at an event."""
    return dataclasses.replace(
        status,
        change=event.change,
        state=event.state,
        started=None if event.state is State.WAITING else status.started,
        ended=event.at if event.state.is_final else None,
        progress=event.progress,
        message=event.message,
        error=event.error,
        has_result=status.has_result and event.state.is_final,
    )


def _last_event_id(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0
