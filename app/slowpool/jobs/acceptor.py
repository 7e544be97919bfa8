"""Acceptor: answers a request with 202 when its client would rather fetch the answer later."""

import asyncio
import contextlib
import hashlib
import inspect
import json
import logging
import secrets

from tornado.httputil import HTTPHeaders
from tornado.web import Application, RequestHandler

from slowpool import instance
from slowpool.errors import BadArgument, CannotAccept, ContentTooLarge, KeyInUse
from slowpool.instance import Runtime
from slowpool.jobs.document import PREFIX, document
from slowpool.jobs.record import NewJob, Request, Status
from slowpool.jobs.runner import Run, Runner
from slowpool.jobs.store import Expired, KeyTaken, Store, StoreError, StoreFull
from slowpool.web.exchange import ACCEPTED, Exchange
from slowpool.web.preferences import Preferences, preferences

log = logging.getLogger("slowpool")

POLL_SECONDS = 0.1
"""How often the store is asked for a job that another instance runs, while a client waits for it."""

STORE_SECONDS = 5
"""``Retry-After`` when the store cannot be used."""

REPEATABLE_METHODS = ("GET", "HEAD")

MOST_KEY_CHARACTERS = 255

NOT_STORED = ("Connection", "Expect", "If-Modified-Since", "If-None-Match", "Keep-Alive", "Prefer")
"""Headers that are about this one transfer: the answer is fetched by another request."""


class Acceptor:
    """Accepts requests for an application."""

    def __init__(self, runtime: Runtime, store: Store, app: Application, runner: Runner) -> None:
        self.store = store
        self._runtime = runtime
        self._app = app
        self._runner = runner
        self._replies: set[asyncio.Task[None]] = set()

    async def accept(self, exchange: Exchange) -> None:
        """See instance.Acceptor.

        Afterwards the exchange has a job_id, and its handler goes on; or it is handed over to whoever takes
        the job, and its handler must end. Raises RequestError when it cannot be accepted.
        """
        handler = exchange.handler
        wish = preferences(exchange.request_headers)
        if not wish.respond_async or not handler or not self._can_accept(exchange, handler):
            return
        job = await self._new_job(exchange, handler)
        taken_by = self._runtime.name if self._runner.may_begin else ""
        try:
            status, lease = await self.store.add(job, taken_by=taken_by)
        except KeyTaken as error:
            raise KeyInUse("another request had this Idempotency-Key: use a new key for each") from error
        except StoreFull as error:
            raise CannotAccept(
                f"{error}; try again later", self._runtime.workers.retry_after_seconds()
            ) from error
        except StoreError as error:
            log.error("a request cannot be accepted: %s", error)
            raise CannotAccept("accepted jobs cannot be kept now; try again", STORE_SECONDS) from error
        if exchange.gone and not job.key:  # nobody knows the job
            await self.cancel(job.id)
            return
        recorder = self._runner.recorder(status.id, exchange.context)
        client = exchange.accept(recorder)
        extra = {"request_id": exchange.request_id, "route": job.route, "job": status.id}
        log.info("job %s is accepted", status.id, extra=extra)
        run = None
        if lease:
            run = self._runner.keep(lease, exchange, recorder)
        else:
            exchange.handed_over = ACCEPTED
            self._runner.look()
        reply = self._reply(client, status, wish, run, keep=bool(job.key))
        task = asyncio.create_task(reply)
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def cancel(self, job_id: str) -> Status | None:
        """Cancel a job that is not final, wherever it is; returns it as it is then, None for none.

        Raises StoreError and Expired.
        """
        status = await self.store.cancel(job_id)
        self._runner.cancel(job_id)
        return status

    async def owner(self, handler: RequestHandler) -> str:
        """Whose job it is, by the application's ``slowpool_job_owner``; empty for everybody's."""
        find = getattr(self._app, "slowpool_job_owner", None) or self._app.settings.get("slowpool_job_owner")
        if find is None:
            return ""
        owner = find(handler)
        if inspect.isawaitable(owner):
            owner = await owner
        return json.dumps(owner.decode() if isinstance(owner, bytes) else owner)

    def _can_accept(self, exchange: Exchange, handler: RequestHandler) -> bool:
        """Whether it can be, and the application does not refuse."""
        if exchange.job_id or exchange.has_begun or exchange.upgraded or not exchange.received:
            return False
        own = getattr(handler, "slowpool", {})
        return bool(
            own.get("respond_async", self._app.settings.get("slowpool_respond_async", True))
            and not getattr(handler, "_stream_request_body", False)
        )

    async def _new_job(self, exchange: Exchange, handler: RequestHandler) -> NewJob:
        request = handler.request
        for name in NOT_STORED:
            exchange.request_headers.pop(name, None)
        headers = [*exchange.request_headers.get_all()]
        owner = await self.owner(handler)
        assert request.method and request.uri
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > MOST_KEY_CHARACTERS:
            raise BadArgument(f"an Idempotency-Key has at most {MOST_KEY_CHARACTERS} characters")
        if len(request.body) > self._runtime.config.job_store_bytes:
            raise ContentTooLarge("the body is larger than JOB_STORE_BYTES: it can be sent without Prefer")
        digest = hashlib.sha256(repr([request.method, request.uri, owner]).encode() + request.body)
        return NewJob(
            secrets.token_hex(16),
            Request(request.method, request.uri, headers, request.body),
            exchange.route or "",
            owner,
            json.dumps([owner, request.method, request.path, key]) if key else "",
            digest.hexdigest(),
            repeatable=bool(key) or request.method in REPEATABLE_METHODS,
        )

    async def _reply(
        self, client: Exchange, status: Status, wish: Preferences, run: Run | None, *, keep: bool
    ) -> None:
        """Answer the client: with the job's answer if it is there in time, otherwise that it is accepted.

        A client that goes away before that does not know the job, which is cancelled unless it has a key.
        """
        applied = "respond-async" if wish.wait is None else f"respond-async, wait={wish.wait}"
        headers = HTTPHeaders({"Preference-Applied": applied, "Vary": "Prefer"})
        try:
            if wish.wait and await self._ends_in_time(client, status.id, wish.wait, run):
                if answer := await self.store.answer(status.id):
                    for name, value in answer.headers:
                        headers.add(name, value)
                    client.answer(answer.status, headers, answer.body)
                    return
            if client.gone:
                if not keep:
                    await self.cancel(status.id)
                return
            status = await self.store.status(status.id) or status
        except (StoreError, Expired) as error:
            log.warning("job %s: its client is told that it is accepted: %s", status.id, error)
        headers["Location"] = f"{PREFIX}{status.id}"
        headers["Content-Type"] = "application/json"
        headers["Cache-Control"] = "no-store"
        body = json.dumps(document(self._runtime, status)).encode()
        headers["Content-Length"] = str(len(body))
        client.answer(202, headers, body)

    async def _ends_in_time(self, client: Exchange, job_id: str, wait: int, run: Run | None) -> bool:
        """Wait until the job has ended or the time is over, the client has gone, or the instance drains."""
        gone = asyncio.Event()
        client.set_close_callback(gone.set)
        ends = [asyncio.ensure_future(event.wait()) for event in (gone, instance.draining)]
        ends.append(asyncio.ensure_future(run.ended.wait() if run else self._becomes_final(job_id)))
        try:
            timeout = min(wait, self._runtime.config.slow_timeout_seconds)
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return ends[-1].done() and not client.gone
        finally:
            for end in ends:
                end.cancel()

    async def _becomes_final(self, job_id: str) -> None:
        while True:
            with contextlib.suppress(StoreError, Expired):
                status = await self.store.status(job_id)
                if status is None or status.state.is_final:
                    return
            await asyncio.sleep(POLL_SECONDS)
