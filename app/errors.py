"""Every exception of slowpool, and the HTTP status that each becomes.

    SlowpoolError
    ├── ConfigError               a setting or the routes module is wrong: exit status 2 at start
    └── RequestError              answered to the client as application/problem+json
        ├── BadArgument           400
        ├── Misdirected           421
        ├── PoolFull              503, Retry-After
        ├── Draining              503, Retry-After
        ├── DeadlinePassed        504
        ├── NotPicklable          500
        └── WorkerDied            500
"""

from tornado.web import HTTPError


class SlowpoolError(Exception):
    """The root of the tree."""


class ConfigError(SlowpoolError):
    """A setting, or the module that ``ROUTES`` names, is wrong; the text says which and what to do."""


class RequestError(SlowpoolError, HTTPError):
    """A request that is answered with a status of its own.

    ``detail`` is for the client. ``log_message`` is for the log; without it, the log has ``detail``.
    """

    status = 500

    def __init__(self, detail: str, log_message: str | None = None) -> None:
        # HTTPError formats its message with "%" when it has arguments; a client's text may contain one.
        HTTPError.__init__(self, self.status, "%s", log_message or detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail

    def headers(self) -> dict[str, str]:
        """Response headers that belong to this error."""
        return {}


class BadArgument(RequestError):
    """An argument of the request is missing or not of its kind."""

    status = 400


class Misdirected(RequestError):
    """A slow route was asked of an instance that is not of the slow pool (RFC 9110, 15.5.20)."""

    status = 421
