"""Handler, SlowHandler for work in the slow pool, and the handlers that refuse requests."""

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Callable
from http.client import responses
from typing import Any, TypeVar, TypeVarTuple

from tornado import web
from tornado.websocket import WebSocketHandler

from slowpool.errors import BadArgument, ClientGone, Misdirected, RequestError
from slowpool.http.request import request_id, route_of
from slowpool.observe import tracing
from slowpool.web.application import Application
from slowpool.workers.job import Job

log = logging.getLogger("slowpool")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html"""


class Handler(web.RequestHandler):
    """A handler whose errors are answered as application/problem+json (RFC 9457)."""

    application: Application

    def text(self, text: str) -> None:
        """Answer with plain text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """An integer argument. Raises BadArgument when it is none, or out of its bounds."""
        value = self.get_argument(name, str(default), strip=False)
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not minimum <= int(value) <= maximum:
            raise BadArgument(f"{name} must be an integer from {minimum} to {maximum}")
        return int(value)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BadArgument(f"{name or 'the path'} is not UTF-8") from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        detail = None
        if isinstance(error, RequestError):
            detail = error.detail
            for name, value in error.headers().items():
                self.set_header(name, value)
        elif isinstance(error, web.MissingArgumentError):
            detail = f"the argument {error.arg_name} is missing"
        elif status_code == 405:
            unimplemented = web.RequestHandler._unimplemented_method
            allowed = ", ".join(
                method
                for method in self.SUPPORTED_METHODS
                if getattr(type(self), method.lower()) is not unimplemented
            )
            self.set_header("Allow", allowed)
            detail = f"this path answers {allowed} only"
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": responses.get(status_code, "Error"),
            "status": status_code,
            "request_id": request_id(self.request),
        }
        if detail:
            problem["detail"] = detail
        if error is not None and status_code == 500 and self.application.runtime.config.debug:
            problem["traceback"] = traceback.format_exception(error)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(problem))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log what went wrong, with the request's id and without its path and query."""
        route = route_of(self.request)
        extra = {"request_id": request_id(self.request), "route": route}
        if isinstance(value, web.HTTPError):
            if value.log_message:
                log.info("%s %s: %s", self.request.method, route, value.get_message(), extra=extra)
        else:
            message = "%s %s: uncaught exception"
            log.error(message, self.request.method, route, exc_info=value, extra=extra)


class PageHandler(Handler):
    """A handler of a page or of its files: only from this server, and without inline scripts."""

    def set_default_headers(self) -> None:
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)


class SlowHandler(Handler):
    """A handler of the slow pool: its pattern begins with ``/slow``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._jobs: set[Job[Any]] = set()
        self._job_headers: dict[str, str] = {}
        self._slowpool_job_times = {"queue_seconds": 0.0, "run_seconds": 0.0}  # sums over its jobs
        self._client_gone = False
        super().__init__(*args, **kwargs)

    async def run(self, task: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a task in a worker process and return what it returns.

        The task is a plain function of an importable module; it may block. An exception that it
        raises is raised here. The deadline counts from the request's arrival; when it passes, or when
        the client goes away, the worker is killed. Raises what WorkerPool.submit and
        Job.result do, and ClientGone.
        """
        if self._client_gone:
            raise ClientGone("the client closed the connection")
        job = self.application.runtime.workers.submit(
            task,
            *args,
            timeout=self._timeout_seconds() - self.request.request_time(),
            request_id=request_id(self.request),
            route=route_of(self.request) or "",
        )
        self._jobs.add(job)
        try:
            return await job.result()
        except asyncio.CancelledError:
            if self._client_gone:
                raise ClientGone("the client closed the connection") from None
            raise
        finally:
            self._jobs.discard(job)
            self._slowpool_job_times["queue_seconds"] += job.wait_seconds
            self._slowpool_job_times["run_seconds"] += job.run_seconds
            queue_ms, run_ms = (seconds * 1000 for seconds in self._slowpool_job_times.values())
            self._job_headers["Server-Timing"] = f"queue;dur={queue_ms:.1f}, run;dur={run_ms:.1f}"
            self._set_job_headers()
            tracing.job(job.submitted_at, job.started_at, job.run_seconds, job.worker_pid)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self._set_job_headers()  # Tornado has cleared them
        super().write_error(status_code, **kwargs)

    def on_connection_close(self) -> None:
        self._client_gone = True
        for job in self._jobs:
            job.cancel()

    def _timeout_seconds(self) -> float:
        """The configured timeout, or less if the client prefers: ``Prefer: wait=N``, RFC 7240, 4.3."""
        configured = self.application.runtime.config.slow_timeout_seconds
        for preference in _PREFERENCE.findall(",".join(self.request.headers.get_list("Prefer"))):
            name, _, value = preference.partition(";")[0].partition("=")
            seconds = value.strip().strip('"')
            if name.strip().lower() == "wait" and re.fullmatch("[0-9]{1,9}", seconds):
                if int(seconds) < configured:
                    self._job_headers["Preference-Applied"] = f"wait={seconds}"
                return min(configured, int(seconds))
        return configured

    def _set_job_headers(self) -> None:
        for name, value in self._job_headers.items():
            self.set_header(name, value)


class NotFoundHandler(web.ErrorHandler, Handler):
    """Answers ``status_code`` whatever the method."""


class RefusedHandler(Handler):
    """Answers a request that was refused before its handler was chosen."""

    def initialize(self, error: RequestError) -> None:
        self._error = error

    def prepare(self) -> None:
        raise self._error


class MisdirectedHandler(Handler):
    """421 for a slow route on a fast instance."""

    def prepare(self) -> None:
        detail = f"{self.request.path} belongs to the slow pool; ask nginx, which routes it"
        raise Misdirected(detail, "belongs to the slow pool")


class TrackedWebSocket(WebSocketHandler):
    """Adds itself to the open WebSockets of the runtime, which are closed when the instance drains."""

    application: Application

    def open(self, *args: str, **kwargs: str) -> Any:
        self.application.runtime.websockets.add(self)
        return super().open(*args, **kwargs)

    def on_close(self) -> None:
        self.application.runtime.websockets.discard(self)
        super().on_close()


_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # a comma in quotes is no separator
