"""Log records of a worker as lines of its output. Both sides import this: standard library only.

A record is the character RS, a JSON array and a newline, as in a JSON text sequence (RFC 7464). The array has
the level, the logger's name, the message, the traceback or null, the stack or null, and the extra fields.
"""

import contextlib
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence

START = b"\x1e"
"""RS, the first byte of a record. JSON escapes it, so a record contains no other."""

MAX_BYTES = 32 * 1024
"""Longest line of a record. A longer record loses its extra fields and the middle of its texts."""

MAX_NAME = 200
"""Longest name of a logger in characters."""

MAX_LEVEL = 1000
MAX_DEPTH = 20
"""How deep lists and objects may be nested in an extra field: JSON encoders are recursive."""

RESERVED = frozenset(dir(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What an extra field cannot be called."""


def install(level: str) -> None:
    """Write the records from this level on, and warnings, to file descriptor 2 from now on.

    ``logging.basicConfig()`` does nothing afterwards.
    """
    logging.basicConfig(level=level.upper(), handlers=[_Handler()])
    logging.captureWarnings(True)


def encode(record: logging.LogRecord) -> bytes:
    """The line of a record, its newline included. Raises what the formatting of its message raises."""
    texts = [record.getMessage(), record.exc_text or _traceback(record), record.stack_info]
    extra = {name: value for name, value in record.__dict__.items() if name not in RESERVED}
    try:
        line = _line(record, texts, extra)
    except Exception:
        line = _line(record, texts, {name: value for name, value in extra.items() if _can_be_encoded(value)})
    kept = MAX_BYTES
    while len(line) > MAX_BYTES:
        kept //= 2
        line = _line(record, [text and _shorten(text, kept) for text in texts], {})
    return line


def decode(line: bytes) -> logging.LogRecord | None:
    """The record of a line without its newline, or None if the line is anything else.

    Its texts, and the names and values of its extra fields, are the task's own and may hold any character.
    """
    if not line.startswith(START):
        return None
    try:
        fields = json.loads(line.removeprefix(START), parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        return None
    match fields:
        case [
            int(level),
            str(name),
            str(message),
            str() | None as exception,
            str() | None as stack,
            dict(extra),
        ] if 0 <= level <= MAX_LEVEL and len(name) <= MAX_NAME:
            record = logging.LogRecord(name, level, "", 0, message, None, None, sinfo=stack)
            record.exc_text = exception
            sound = {key: value for key, value in extra.items() if key not in RESERVED and _is_shallow(value)}
            record.__dict__.update(sound)
            return record
    return None


class _Handler(logging.Handler):
    """Writes each record as one line, after what Python has buffered of stdout."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = encode(record)
            with contextlib.suppress(Exception):  # the task may have closed it
                sys.stdout.flush()
            while line:  # one call is enough, unless a signal handler runs while the pipe is full
                line = line[os.write(2, line) :]
        except Exception:
            with contextlib.suppress(Exception):
                self.handleError(record)


def _line(record: logging.LogRecord, texts: Sequence[str | None], extra: Mapping[str, object]) -> bytes:
    fields = [record.levelno, record.name[:MAX_NAME], *texts, extra]
    return START + _JSON.encode(fields).encode() + b"\n"


def _traceback(record: logging.LogRecord) -> str | None:
    return _FORMATTER.formatException(record.exc_info) if record.exc_info else None


def _can_be_encoded(value: object) -> bool:
    try:
        _JSON.encode(value)
    except Exception:  # a circular one, or one whose __str__ raises
        return False
    return True


def _shorten(text: str, characters: int) -> str:
    """The text without its middle."""
    left_out, half = len(text) - characters, characters // 2
    return f"{text[:half]}[… {left_out} characters …]{text[-half:]}" if left_out > 0 else text


def _number(text: str) -> float | str:
    """The number, or its text if JSON has no such number: Infinity, 1e999."""
    value = float(text)
    return value if math.isfinite(value) else text


def _is_shallow(value: object, depth: int = MAX_DEPTH) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(part, depth - 1) for part in parts)


_FORMATTER = logging.Formatter()
_JSON = json.JSONEncoder(separators=(",", ":"), skipkeys=True, default=str)
