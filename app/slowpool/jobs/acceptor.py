"""Acceptor: answers a request with 202 when its client would rather fetch the answer later."""

import asyncio
import contextlib
import hashlib
import inspect
import json
import logging
import secrets
from collections.abc import Iterator

from tornado.httputil import HTTPHeaders
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from slowpool import instance
from slowpool.errors import BadArgument, CannotAccept, CannotAct, ContentTooLarge, KeyInUse, NotFound
from slowpool.instance import Runtime
from slowpool.jobs.document import PREFIX, document
from slowpool.jobs.record import Lease, NewJob, Request, State, Status
from slowpool.jobs.run import Run
from slowpool.jobs.runner import Runner
from slowpool.jobs.store import Expired, KeyTaken, Store, StoreError, StoreFull
from slowpool.web.exchange import ACCEPTED, Exchange
from slowpool.web.preferences import Preferences, preferences

log = logging.getLogger("slowpool")

POLL_SECONDS = 0.1, 1.0
"""How often the store is asked for a job of another instance, while a client waits: at first, and later."""

STORE_SECONDS = 5
"""``Retry-After`` when the store cannot be used."""

REPEATABLE_METHODS = ("GET", "HEAD")

MOST_KEY_CHARACTERS = 255

LARGE_BYTES = 1_000_000
"""From this size on a body is hashed in a thread: this one takes a millisecond."""

NOT_STORED = (
    "Accept-Encoding",  # another client may fetch the answer, which is compressed then
    "Connection",
    "Expect",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Keep-Alive",
    "Prefer",
    "Range",
)
"""Headers that are about one transfer: the answer is fetched by another one."""


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
        begins = self._runner.may_begin
        with self._runner.reserving() if begins else contextlib.nullcontext():
            status, lease = await self._add(job, self._runtime.name if begins else "")
            if exchange.gone or exchange.has_begun:  # meanwhile
                await self._take_back(job, status, lease, is_wanted=exchange.gone)
                return
            extra = {"request_id": exchange.request_id, "route": job.route, "job": status.id}
            log.info("job %s is accepted", status.id, extra=extra)
            recorder = self._runner.recorder(status.id, exchange.context)
            client = exchange.accept(recorder)
            run = None
            if lease:
                handler._transforms = []  # nothing is compressed for this client
                run = self._runner.keep(lease, exchange, recorder)
            else:
                exchange.handed_over = ACCEPTED
                self._runner.look()
        task = asyncio.create_task(self._reply(client, status, wish, run, keep=bool(job.key)))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job that is not final, wherever it is. Raises StoreError and Expired."""
        await self.store.cancel(job_id)
        self._runner.cancel(job_id)

    async def cancel_for_operator(self, job_id: str) -> str:
        """See instance.Acceptor."""
        job_id = self._runner.accepted_id(job_id) or job_id
        try:
            status = await self.store.cancel(job_id)
        except Expired as error:
            raise CannotAct("the job has ended, and its answer was kept for JOB_RESULT_SECONDS") from error
        except StoreError as error:
            raise CannotAccept("the job cannot be cancelled now; try again", STORE_SECONDS) from error
        if status is None:
            raise NotFound("no job with this id runs or waits here, or is accepted")
        if status.state is not State.CANCELLED:
            raise CannotAct(f"the job is {status.state} already")
        self._runner.cancel(job_id)
        return job_id

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
        if exchange.job_id or exchange.has_begun or not exchange.received:
            return False
        if isinstance(handler, WebSocketHandler) or getattr(handler, "_stream_request_body", False):
            return False
        own = getattr(handler, "slowpool", None)
        settings = own if isinstance(own, dict) else {}
        return bool(settings.get("respond_async", self._app.settings.get("slowpool_respond_async", True)))

    async def _add(self, job: NewJob, taken_by: str) -> tuple[Status, Lease | None]:
        try:
            return await self.store.add(job, taken_by=taken_by)
        except KeyTaken as error:
            raise KeyInUse("another request had this Idempotency-Key: use a new key for each") from error
        except StoreFull as error:
            seconds = error.retry_after_seconds or self._runtime.workers.retry_after_seconds()
            raise CannotAccept(f"{error}; try again later", seconds) from error
        except StoreError as error:
            log.error("a request cannot be accepted: %s", error)
            if not job.key:  # the store may have it all the same
                with contextlib.suppress(StoreError, Expired):
                    await self.store.cancel(job.id)
            raise CannotAccept("accepted jobs cannot be kept now; try again", STORE_SECONDS) from error

    async def _take_back(self, job: NewJob, status: Status, lease: Lease | None, *, is_wanted: bool) -> None:
        """Undo an acceptance that no client knows of; one who has a key may come back for the job."""
        with contextlib.suppress(StoreError, Expired):
            if job.key and is_wanted:
                if lease:
                    await self.store.release(lease.id, lease.fence)
                self._runner.look()
            elif status.id == job.id:  # none that was there before
                await self.store.cancel(job.id)

    async def _new_job(self, exchange: Exchange, handler: RequestHandler) -> NewJob:
        request = handler.request
        assert request.method
        assert request.uri
        for name in NOT_STORED:
            exchange.request_headers.pop(name, None)
        if len(request.body) > self._runtime.config.job_store_bytes:
            raise ContentTooLarge("the body is larger than JOB_STORE_BYTES: it can be sent without Prefer")
        owner = await self.owner(handler)
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > MOST_KEY_CHARACTERS:
            raise BadArgument(f"an Idempotency-Key has at most {MOST_KEY_CHARACTERS} characters")
        return NewJob(
            secrets.token_hex(16),
            Request(request.method, request.uri, [*request.headers.get_all()], request.body),
            exchange.route or "",
            owner,
            json.dumps([owner, request.method, request.path, key]) if key else "",
            await _digest(handler, owner) if key else "",
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
            if wish.wait:
                if await self._ends_in_time(client, status.id, wish.wait, run) and (
                    answer := await self.store.answer(status.id)
                ):
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
        except Exception:
            log.exception("the client of job %s cannot be answered", status.id)
            client.cut()
            return
        headers["Location"] = f"{PREFIX}{status.id}"
        headers["Content-Type"] = "application/json"
        headers["Cache-Control"] = "no-store"
        client.answer(202, headers, json.dumps(document(self._runtime, status)).encode())

    async def _ends_in_time(self, client: Exchange, job_id: str, wait: int, run: Run | None) -> bool:
        """Wait until the job has ended or the time is over, the client has gone, or the instance drains."""
        gone = asyncio.Event()
        client.set_close_callback(gone.set)
        if client.gone:
            return False
        run = run or self._runner.runs.get(job_id)
        end = asyncio.ensure_future(run.ended.wait() if run else self._becomes_final(job_id))
        ends = [end, *(asyncio.ensure_future(event.wait()) for event in (gone, instance.draining))]
        try:
            timeout = min(wait, self._runtime.config.slow_timeout_seconds)
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return end.done() and not client.gone
        finally:
            for one in ends:
                one.cancel()

    async def _becomes_final(self, job_id: str) -> None:
        for seconds in _slower():
            with contextlib.suppress(StoreError):
                status = await self.store.status(job_id)
                if status is None or status.state.is_final:
                    return
            await asyncio.sleep(seconds)


async def _digest(handler: RequestHandler, owner: str) -> str:
    """What is equal for the same request of the same client.

    Where the application does not say who that is, its credentials do.
    """
    request = handler.request
    names = ["Content-Type"] if owner else ["Content-Type", "Authorization", "Cookie"]
    told = [request.uri, *(request.headers.get(name, "") for name in names)]

    def calculate() -> str:
        digest = hashlib.sha256(json.dumps(told).encode())
        digest.update(request.body)
        return digest.hexdigest()

    if len(request.body) < LARGE_BYTES:
        return calculate()
    return await asyncio.to_thread(calculate)


def _slower() -> Iterator[float]:
    """Pauses that become longer."""
    seconds, longest = POLL_SECONDS
    while True:
        yield seconds
        seconds = min(1.2 * seconds, longest)
