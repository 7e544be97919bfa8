"""A log record as a line of a worker's output."""

import io
import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowpool.config import Config
from slowpool.observe import logs
from slowpool.workers import records

FIELDS = [40, "shop", "hello", None, None, {}]
LEVEL, LOGGER, *_ = range(len(FIELDS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=5,
)
NAMES = st.sampled_from([*sorted(records.RESERVED), "request_id", "level", "instance", "time"]) | st.text()


def line_of(fields: object) -> bytes:
    return records.START + json.dumps(fields).encode()


def changed(place: int, value: object) -> list[object]:
    """The fields of a record, but for one."""
    return [*FIELDS[:place], value, *FIELDS[place + 1 :]]


def test_a_record_comes_back_whole() -> None:
    try:
        raise ValueError("no paper")
    except ValueError:
        record = record_of("%d pages\n\x1e", 3, exc_info=sys.exc_info(), pages=3, parts=[1.5, {"a": None}])
    record.stack_info = "Stack (most recent call last):\n  here"
    decoded = back(record)
    assert decoded.__dict__.items() >= {"levelno": 40, "levelname": "ERROR", "name": "shop.report"}.items()
    assert decoded.getMessage() == "3 pages\n\x1e"
    assert decoded.exc_text
    assert decoded.exc_text.startswith("Traceback (most recent call last):\n")
    assert decoded.exc_text.endswith('    raise ValueError("no paper")\nValueError: no paper')
    assert decoded.stack_info == record.stack_info
    assert (vars(decoded)["pages"], vars(decoded)["parts"]) == (3, [1.5, {"a": None}])


def test_a_record_without_an_exception_has_none() -> None:
    decoded = back(record_of("hello", exc_info=False))
    assert (decoded.exc_text, decoded.stack_info) == (None, None)


@pytest.mark.parametrize("text", ["a\nb\r\x1e\x85\u2028", "\ud83d \udcff", "\U0001f600 ü", "", "%s"])
def test_a_record_is_one_line_whatever_its_text_is(text: str) -> None:
    line = records.encode(record_of("%s", text))
    assert line.endswith(b"\n")
    assert line.isascii()
    assert (line.count(b"\n"), line.count(b"\r"), line.count(records.START)) == (1, 0, 1)
    assert back(record_of("%s", text)).getMessage() == text


def test_a_number_that_json_cannot_have_is_text() -> None:
    record = records.decode(line_of(FIELDS).replace(b"{}", b'{"a": 1e999, "b": NaN, "c": 1.5}'))
    assert record
    assert [vars(record)[name] for name in "abc"] == ["1e999", "NaN", 1.5]


def test_a_long_name_is_cut() -> None:
    record = record_of("hello")
    record.name = "x" * 1_000
    assert back(record).name == "x" * records.MAX_NAME


@pytest.mark.parametrize("char", ["x", "\x00", "\U0001f600"])
def test_a_long_record_is_shortened_in_the_middle(char: str) -> None:
    record = record_of("first" + char * 100_000 + "last", pages=3)
    record.exc_text = f"Traceback{char * 100_000}ValueError"
    record.exc_info = (ValueError, ValueError(), None)
    line = records.encode(record)
    assert records.MAX_BYTES / 4 < len(line) <= records.MAX_BYTES
    decoded = back(record)
    assert decoded.getMessage().startswith(f"first{char}")
    assert decoded.getMessage().endswith(f"{char}last")
    assert " characters …]" in decoded.getMessage()
    assert decoded.exc_text
    assert decoded.exc_text.endswith(f"{char}ValueError")


def test_a_field_that_json_cannot_have_is_left_out_or_text() -> None:
    circular: list[object] = []
    circular.append(circular)
    deep: list[object] = []
    for _ in range(records.MAX_DEPTH + 1):
        deep = [deep]
    fields = {"circular": circular, "deep": deep, "keys": {(1, 2): 3, "a": 4}, "type": ValueError}
    decoded = vars(back(record_of("hello", **fields)))
    assert not {"circular", "deep"} & decoded.keys()
    assert decoded["keys"] == {"a": 4}
    assert decoded["type"] == "<class 'ValueError'>"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        json.dumps(FIELDS).encode(),
        records.START,
        records.START + b"hello",
        records.START + b"\xff",
        records.START + b"{}",
        records.START + b"[" * 100_000,
        records.START + b"[" + b"9" * 5_000 + b"]",
        records.START + line_of(FIELDS),
        line_of(FIELDS) + b"and more",
        line_of(FIELDS)[:-1],
        line_of(FIELDS[:-1]),
        line_of([*FIELDS, None]),
        *(line_of(changed(place, [])) for place in range(len(FIELDS))),
        *(line_of(changed(place, 1.5)) for place in range(len(FIELDS))),
        *(line_of(changed(LEVEL, level)) for level in (-1, 1001, "40")),
        line_of(changed(LOGGER, "x" * 201)),
    ],
    ids=lambda line: repr(line[:60]),
)
def test_any_other_line_is_no_record(line: bytes) -> None:
    assert records.decode(line_of(FIELDS))
    assert records.decode(line) is None


@given(st.tuples(*[JSON] * len(FIELDS)) | JSON)
def test_no_json_breaks_the_instance(fields: object) -> None:
    records.decode(line_of(fields))


@given(st.binary())
def test_no_bytes_break_the_instance(data: bytes) -> None:
    records.decode(records.START + data)


@given(
    st.text(max_size=records.MAX_NAME),
    st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.dictionaries(NAMES, JSON),
)
def test_no_record_breaks_the_log(
    name: str, message: str, exception: str | None, stack: str | None, extra: dict[str, object]
) -> None:
    line = line_of([logging.ERROR, name, message, exception, stack, extra])
    for text in (printed("json", line), printed("console", line)):
        assert not {*map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x202E])} & {*text}
        assert text.endswith("\n")
    logged = json.loads(printed("json", line), parse_constant=pytest.fail)
    assert (logged["level"], logged["logger"], logged["message"]) == ("ERROR", name, message)
    assert (logged["pool"], logged["instance"]) == ("slow", "slow:1")
    assert logged["time"].endswith("+00:00")
    assert logged.get("exception") == (exception or None)


def record_of(message: str, *arguments: object, exc_info: Any = None, **extra: object) -> logging.LogRecord:
    """What a call of ``logging.getLogger("shop.report").error`` makes."""
    return logging.Logger("").makeRecord(
        "shop.report", logging.ERROR, "", 0, message, arguments, exc_info, extra=extra
    )


def back(record: logging.LogRecord) -> logging.LogRecord:
    """The record after its way through the pipe."""
    decoded = records.decode(records.encode(record).removesuffix(b"\n"))
    assert decoded
    return decoded


def printed(log_format: str, line: bytes) -> str:
    """What an instance logs of a worker's line."""
    stream = io.StringIO()
    root = logging.RootLogger(logging.WARNING)
    record = records.decode(line)
    assert record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "root", root)
        patch.setattr(logging, "raiseExceptions", False)
        logs.set_up(Config(log_format=log_format), "slow", "slow:1", stream)
        logging.captureWarnings(False)
    root.handle(record)
    return stream.getvalue()
