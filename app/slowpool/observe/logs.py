"""The log: one line for each event on stdout, as JSON or for people.

Whatever a client sends, a line of JSON is valid UTF-8, a line for people has no control characters, and
Tornado's own lines have no query.
"""

import io
import logging
import re
import sys
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from slowpool.config import Config
from slowpool.observe.untrusted import loggable

TORNADO_ACCESS = logging.getLogger("tornado.access")
_NOBODY = logging.NullHandler()

JSON_NAMES = {"levelname": "level", "name": "logger", "exc_info": "exception"}


def set_up(config: Config, pool: str, instance: str, stream: TextIO = sys.stdout) -> None:
    """Log to the stream from now on, in the format and from the level of the settings.

    See ``formatter`` for a line.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8")  # the locale may have another encoding
    handler = logging.StreamHandler(stream)
    handler.addFilter(_without_query)
    handler.setFormatter(formatter(config, pool, instance))
    logging.captureWarnings(True)
    # nginx or slowpool.access has a line for each request. An application that wants Tornado's adds a
    # handler here.
    TORNADO_ACCESS.addHandler(_NOBODY)
    TORNADO_ACCESS.propagate = False
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])


def skip_unread_lines() -> None:
    """Make no record of an access line of Tornado's when the application has added no handler for it."""
    is_read = TORNADO_ACCESS.propagate or TORNADO_ACCESS.handlers != [_NOBODY]
    TORNADO_ACCESS.disabled = not is_read


def formatter(config: Config, pool: str, instance: str) -> logging.Formatter:
    """Makes lines in the format of the settings.

    A line has what its call gives as ``extra``: ``request_id``, ``route``, ``seconds`` and the like, but for
    the names that each line has.
    """
    if config.log_format == "json":
        return _Json(
            "{levelname}{name}{message}",
            style="{",
            rename_fields=JSON_NAMES,
            static_fields={"pool": pool, "instance": instance},
            timestamp="time",
            reserved_attrs=[*RESERVED_ATTRS, *JSON_NAMES.values(), "pool", "instance", "time"],
        )
    text = f"%(asctime)s %(levelname)s {instance} %(name)s [%(request_id)s] %(message)s"
    return _Console(text, defaults={"request_id": "-"})


def _without_query(record: logging.LogRecord) -> bool:
    """Remove from Tornado's own lines what a client has sent: queries, and data that is not HTTP."""
    if record.name.partition(".")[0] == "tornado":
        text = record.getMessage()
        if text.startswith("Malformed HTTP message"):
            text = re.split("['\"]", text)[0].rstrip(" :")
        record.msg, record.args = re.sub(r"\?[^ \n]*", "?…", text), None
    return True


class _Json(JsonFormatter):
    """Non-ASCII characters are escaped; half of a surrogate pair, which is no character, is replaced."""

    def format(self, record: logging.LogRecord) -> str:
        return _JSON_ESCAPES.sub(_escape_json, super().format(record))


class _Console(logging.Formatter):
    """A line for each event, and after it the lines of its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_text:  # of a worker's record, or kept by another formatter
            record.exc_text = loggable(record.exc_text, keep="\t\n")
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return loggable(super().formatMessage(record), keep="\t")

    def formatException(self, ei: Any) -> str:
        return loggable(super().formatException(ei), keep="\t\n")

    def formatStack(self, stack_info: str) -> str:
        return loggable(super().formatStack(stack_info), keep="\t\n")


def _escape_json(found: re.Match[str]) -> str:
    if found[0] == "\x7f":
        return r"\u007f"
    return r"\ufffd" if found["half"] else found[0]


_JSON_ESCAPES = re.compile(r"\\\\|\\ud[89ab]..\\ud[c-f]..|(?P<half>\\ud[89a-f]..)|\x7f")
