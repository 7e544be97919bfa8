"""Every exception of slowpool, and the HTTP status that each becomes.

SlowpoolError
├── ConfigError               a setting is wrong: exit status 2 at start
│   └── AppError              the application cannot be loaded
├── WrongTask                 slowpool.run or stream with a function that cannot be a task
├── CannotHandOver            slowpool.run on a fast instance, where it is too late for it
├── WorkerTraceback           the cause of an exception of a task, which is not in this tree
└── RequestError              answered to the client as application/problem+json
    ├── BadArgument           400
    ├── ForeignPage           403
    ├── NotFound              404
    ├── CannotAct             409
    ├── Conflict              409, Retry-After
    ├── Gone                  410
    ├── ContentTooLarge       413
    ├── Misdirected           421
    ├── KeyInUse              422
    ├── CannotAccept          503, Retry-After
    │   └── PoolFull          503, Retry-After
    ├── Draining              503, Retry-After
    ├── DeadlinePassed        504
    ├── ClientGone            499, which no client reads
    ├── NotPicklable          500
    ├── ResultTooLarge        500
    ├── WorkerDied            502
    ├── CutOff                502
    └── NoAnswer              502
"""

from tornado.web import HTTPError

RETRY_NOW_SECONDS = 1
"""``Retry-After`` where another instance, or a replica that is coming, can answer at once."""


class SlowpoolError(Exception):
    """The root of the tree."""


class ConfigError(SlowpoolError):
    """A setting is wrong; the text says which and what to do."""

    exit_status = 2
    """Of a command that ends with it, as argparse's own for a wrong command line."""


class AppError(ConfigError):
    """The application raises an exception when it is loaded; ``traceback`` is its text."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


class CannotHandOver(SlowpoolError, RuntimeError):
    """slowpool.run cannot give the request to the slow pool; the text says why and what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(f"slowpool.run cannot hand the request over to the slow pool: {why}")


class WrongTask(SlowpoolError, TypeError):
    """A function cannot be a task; the text says why and what to do."""


class RequestError(SlowpoolError, HTTPError):
    """A request that is answered with a status of its own.

    ``detail`` is for the client, ``log_text`` for the log.
    """

    status = 500

    def __init__(self, detail: str, log_message: str | None = None) -> None:
        HTTPError.__init__(self, self.status)  # without a message: Tornado would log it with the query
        self.detail = detail
        self.log_text = log_message or detail

    def __str__(self) -> str:
        return self.detail

    def headers(self) -> dict[str, str]:
        """Response headers that belong to this error."""
        return {}


class BadArgument(RequestError):
    """An argument of the request is missing or not of its kind."""

    status = 400


class ForeignPage(RequestError):
    """A page of another site asks for an action, or who asks does not send what no such page can."""

    status = 403


class NotFound(RequestError):
    """There is no such path, or no such job or instance."""

    status = 404


class CannotAct(RequestError):
    """What an operator asks for cannot be done now; the text says why and what to do."""

    status = 409


class Conflict(RequestError):
    """An accepted job has not ended."""

    status = 409

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(RETRY_NOW_SECONDS)}


class Gone(RequestError):
    """An accepted job has no answer, or none any more."""

    status = 410


class ContentTooLarge(RequestError):
    """The body is larger, or would grow larger, than the handler takes."""

    status = 413


class Misdirected(RequestError):
    """A system route was asked for by another name than the instance's own (RFC 9110, 15.5.20)."""

    status = 421


class KeyInUse(RequestError):
    """Another request had the same Idempotency-Key."""

    status = 422


class CannotAccept(RequestError):
    """There is no room for an accepted job, or the store cannot be used."""

    status = 503

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_seconds)}


class PoolFull(CannotAccept):
    """All workers and queue places are taken; ``retry_after_seconds`` estimates when one is free."""

    def __init__(self, waiting: int, retry_after_seconds: int) -> None:
        super().__init__(f"the slow pool is full: {waiting} jobs wait; try again later", retry_after_seconds)


class Draining(RequestError):
    """The instance stopped before the job could start."""

    status = 503

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(RETRY_NOW_SECONDS)}


class DeadlinePassed(RequestError):
    """The job was not done in time; if it ran, its worker has been killed and is gone."""

    status = 504


class ClientGone(RequestError):
    """The client closed the connection; the status is nginx's, and only in the log."""

    status = 499


class NotPicklable(RequestError):
    """A task, argument, result or exception cannot pass between processes; the text names its type."""

    status = 500


class ResultTooLarge(RequestError):
    """A result, or an item of a stream, is larger than SLOW_MAX_RESULT_BYTES; ``what`` names it."""

    status = 500

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is larger than SLOW_MAX_RESULT_BYTES: raise that, return less, or let the task yield "
            "parts to slowpool.stream"
        )


class WorkerDied(RequestError):
    """The worker ended while it ran the job; the log has its pid and how it ended."""

    status = 502


class CutOff(RequestError):
    """The job was ended by an operator or, while it ran, by the drain timeout of its instance."""

    status = 502


class NoAnswer(RequestError):
    """The instance that an action is about does not answer, or not as it should."""

    status = 502


class WorkerTraceback(SlowpoolError):
    """The traceback of a task's exception as text, since a traceback itself cannot be pickled."""

    def __str__(self) -> str:
        return f"in the worker:\n\n{self.args[0]}"
