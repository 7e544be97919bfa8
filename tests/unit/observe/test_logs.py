"""The text of a log line."""

import io
import json
import logging

import pytest

from slowpool.config import Config
from slowpool.observe import logs


@pytest.mark.parametrize(
    ("text", "console", "parsed"),
    [
        ("plain", "plain", "plain"),
        ("a\tb", "a\tb", "a\tb"),
        ("a\nb\r", r"a\nb\r", "a\nb\r"),
        ("\x1b[2J\x7f\x9b", r"\x1b[2J\x7f\x9b", "\x1b[2J\x7f\x9b"),
        ("\udcff \ud83d", r"\udcff \ud83d", "\ufffd \ufffd"),
        ("\ud83d\ude00\ud83d", r"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
        ("\U0001f600 ü \\ud800", "\U0001f600 ü \\ud800", "\U0001f600 ü \\ud800"),
        ("\u202e\u2028", r"\u202e\u2028", "\u202e\u2028"),
        ("\u200e\u2066\u2029", r"\u200e\u2066\u2029", "\u200e\u2066\u2029"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
        ("a\u00adb\ufeff", "a\u00adb\ufeff", "a\u00adb\ufeff"),
        ("/a?token=1", "/a?token=1", "/a?token=1"),
    ],
)
def test_what_is_no_text_is_escaped(
    monkeypatch: pytest.MonkeyPatch, text: str, console: str, parsed: str
) -> None:
    assert printed(monkeypatch, "console", "slowpool", "%s", text).endswith(f"[-] {console}\n")
    line = printed(monkeypatch, "json", "slowpool", "%s", text)
    assert json.loads(line)["message"] == parsed
    assert line.isascii()
    assert "\x7f" not in line


@pytest.mark.parametrize(
    ("message", "cut"),
    [
        ("Uncaught exception GET /a?token=1 (::1)", "Uncaught exception GET /a?… (::1)"),
        ("400 GET /?token=a\x85b\xa0c\"'() (1.2.3.4): bad", "400 GET /?… (1.2.3.4): bad"),
        ("GET /a (::1)\nuri='/a?b', x", "GET /a (::1)\nuri='/a?… x"),
        (
            "Malformed HTTP message from ::1: Invalid header value 'a?b",
            "Malformed HTTP message from ::1: Invalid header value",
        ),
        (
            "Malformed HTTP message from ::1: Invalid Host header: \"a'",
            "Malformed HTTP message from ::1: Invalid Host header",
        ),
        (
            "Malformed HTTP message from ::1: Missing Host header",
            "Malformed HTTP message from ::1: Missing Host header",
        ),
    ],
)
def test_tornados_lines_hold_no_query(monkeypatch: pytest.MonkeyPatch, message: str, cut: str) -> None:
    line = printed(monkeypatch, "json", "tornado.general", "%s", message)
    assert json.loads(line)["message"] == cut


def test_an_access_line_of_tornados_is_made_for_a_handler_of_the_application_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = logging.getLogger("tornado.access")
    for name, value in {"handlers": [], "propagate": True, "level": logging.INFO, "disabled": False}.items():
        monkeypatch.setattr(access, name, value)
    printed(monkeypatch, "json", "slowpool", "")
    logs.skip_unread_lines()
    assert access.disabled
    lines = io.StringIO()
    access.addHandler(logging.StreamHandler(lines))
    logs.skip_unread_lines()
    access.info("200 GET /")
    assert lines.getvalue() == "200 GET /\n"


def printed(
    monkeypatch: pytest.MonkeyPatch, log_format: str, logger: str, message: str, *arguments: object
) -> str:
    """What one call of a logger prints."""
    stream = io.StringIO()
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    logs.set_up(Config(log_format=log_format), "fast", "fast:1", stream)
    record = logging.LogRecord(logger, logging.INFO, "", 0, message, arguments, None)
    logging.captureWarnings(False)
    root.handle(record)
    return stream.getvalue()
