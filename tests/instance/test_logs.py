"""The log of an instance: what it holds, and what it must not hold."""

import asyncio
import contextlib
import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from tests.apps import logged
from tests.support.basics import wait_until
from tests.support.client import Response, request
from tests.support.process import Instance
from tests.support.websocket import websocket

SECRET = "do-not-log-this"

ODD_ROUTES = """
from tornado.routing import AnyMatches
from tornado.web import Application, RequestHandler

class Straße(RequestHandler):  # by no rule with a path, so its name is the route
    def get(self):
        self.write("a page")

def make_app():
    return Application([(AnyMatches(), Straße)])
"""


@pytest.fixture
def slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, APP="tests.apps.watched:make_app", LOG_FORMAT="json", expected="") as instance:
        yield instance


def entries(instance: Instance) -> list[dict[str, Any]]:
    """Every line of the log, each of which must be a JSON object."""
    return [json.loads(line) for line in instance.output.splitlines()]


def wait_for_answer_to_be_logged(instance: Instance) -> None:
    instance.wait_for_output('"slowpool.access"')


def test_a_request_is_one_object_with_its_id_route_status_and_times(slow: Instance) -> None:
    assert (
        request(slow.port, f"/slow/task/own_pid?password={SECRET}", headers={"X-Request-ID": "me"}).status
        == 200
    )
    wait_for_answer_to_be_logged(slow)
    (entry,) = [entry for entry in entries(slow) if entry["logger"] == "slowpool.access"]
    assert entry["level"] == "INFO"
    assert (entry["pool"], entry["instance"]) == ("slow", f"slow:{slow.port}")
    assert (entry["request_id"], entry["method"], entry["route"]) == ("me", "GET", "/slow/task/{}")
    assert entry["status"] == 200
    assert 0 < entry["run_seconds"] < entry["seconds"]
    assert entry["queue_seconds"] >= 0
    assert entry["time"].endswith("+00:00")


def test_behind_nginx_only_a_500_has_a_line_and_nginx_is_told_what_to_log(slow: Instance) -> None:
    def get(path: str, request_id: str) -> Response:
        return request(slow.port, path, headers={"X-Slowpool-Public": "1", "X-Request-ID": request_id})

    answered = get("/slow/task/own_pid", "answered")
    assert answered.headers["X-Slowpool-Route"] == "/slow/task/{}"
    for name in ("queue", "run"):
        (milliseconds,) = re.findall(rf"{name};dur=([\d.]+)", answered.headers["Server-Timing"])
        told = float(answered.headers[f"X-Slowpool-{name}-Seconds"])
        assert told == pytest.approx(float(milliseconds) / 1000, abs=0.0002)
    failed = get("/slow/task/raises", "failed")
    assert (failed.status, failed.headers["X-Slowpool-Route"]) == (500, "/slow/task/{}")
    assert get("/nothing", "nowhere").headers["X-Slowpool-Route"] == ""
    wait_for_answer_to_be_logged(slow)
    (entry,) = [entry for entry in entries(slow) if entry["logger"] == "slowpool.access"]
    assert (entry["request_id"], entry["status"], entry["level"]) == ("failed", 500, "ERROR")
    without = slow.get("/slow/task/own_pid").headers
    assert not [name for name in without if name.lower().startswith("x-slowpool")]


def test_a_route_of_any_characters_is_told_in_ascii(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD_ROUTES)
    with Instance(path=tmp_path, APP="odd:make_app") as instance:
        response = request(instance.port, "/", headers={"X-Slowpool-Public": "1"})
        assert (response.status, response.headers["X-Slowpool-Route"]) == (200, r"Stra\xdfe")


def test_what_a_worker_prints_has_the_id_of_its_request(slow: Instance) -> None:
    request(slow.port, "/slow/say?text=hello", headers={"X-Request-ID": "mine"})
    slow.wait_for_output("hello")
    (entry,) = [entry for entry in entries(slow) if entry["message"].endswith(": hello")]
    assert entry["request_id"] == "mine"
    assert entry["worker"] > 0


def test_no_query_is_logged_whatever_happens_and_no_path_by_slowpool(slow: Instance) -> None:
    for path in ("/slow/task/raises", "/slow/task/exits", "/slow/task/paths", "/paths"):
        slow.get(f"{path}?password={SECRET}")
    slow.wait_for_output('"route": ""')
    assert SECRET not in slow.output
    own = [entry for entry in entries(slow) if entry["logger"].startswith("slowpool")]
    assert not [entry for entry in own if "paths" in json.dumps(entry)]
    assert all(entry["route"] for entry in own if entry.get("status") == 500)


def test_an_exception_is_one_object_with_its_traceback(slow: Instance) -> None:
    slow.get("/slow/task/raises")
    slow.wait_for_output("Uncaught exception")
    (entry,) = [entry for entry in entries(slow) if "Uncaught exception" in entry["message"]]
    assert entry["level"] == "ERROR"
    assert "in the worker:" in entry["exception"]


def test_a_record_of_a_task_is_one_object_like_one_of_the_instance() -> None:
    with LoggingInstance(LOG_FORMAT="json") as instance:
        request(instance.port, "/slow/log/logs_in_every_way", headers={"X-Request-ID": "mine"})
        instance.wait_for_output("the report failed")
        info, warning, error = of_the_task(instance)
    assert (info["level"], info["message"]) == ("INFO", "a report of 3 pages")
    assert (info["pages"], info["names"], info["request_id"]) == (3, ["a", "b"], "mine")
    assert (info["pool"], info["instance"]) == ("slow", f"slow:{instance.port}")
    assert info["worker"] > 0
    assert warning["level"] == "WARNING"
    assert "in logs_in_every_way" in warning["stack_info"]
    assert (error["level"], error["message"]) == ("ERROR", "the report failed")
    assert re.fullmatch(
        r"Traceback .*in fails_and_logs\n.*\nValueError: no paper\x1b\[2J", error["exception"], re.DOTALL
    )


def test_a_record_of_a_task_has_its_traceback_without_control_characters_for_people() -> None:
    with LoggingInstance() as instance:
        request(instance.port, "/slow/log/logs_in_every_way", headers={"X-Request-ID": "mine"})
        instance.wait_for_output("^ValueError: no paper")
        output = instance.output
    lines = output.splitlines()
    assert f" INFO slow:{instance.port} shop.report [mine] a report of 3 pages" in output
    assert f" ERROR slow:{instance.port} shop.report [mine] the report failed" in output
    assert lines.count("Traceback (most recent call last):") == 1
    assert r"ValueError: no paper\x1b[2J" in lines
    assert not CONTROLS.search(output)


def test_what_a_task_prints_stays_in_order_with_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with LoggingInstance(LOG_FORMAT="json") as instance:
        instance.get("/slow/log/logs_beside_what_it_prints")
        instance.wait_for_output('"message": "8"')
        printed = [
            entry for entry in entries(instance) if entry["logger"] in ("shop.report", "slowpool.worker")
        ]
    assert [entry["message"][-1] for entry in printed] == list("12345678")
    assert [entry["logger"] for entry in printed if entry["message"] in list("258")] == 3 * ["shop.report"]


def test_a_warning_in_a_task_is_a_record() -> None:
    with LoggingInstance(LOG_FORMAT="json") as instance:
        instance.get("/slow/log/warns")
        instance.wait_for_output("the paper is old")
        (entry,) = [entry for entry in entries(instance) if entry["logger"] == "py.warnings"]
    assert entry["level"] == "WARNING"


@pytest.mark.parametrize(
    ("level", "levels"),
    [("debug", "DEBUG INFO WARNING ERROR"), ("warning", "WARNING ERROR"), ("error", "ERROR")],
)
def test_the_level_is_one_of_tasks_too(level: str, levels: str) -> None:
    with LoggingInstance(LOG_FORMAT="json", LOG_LEVEL=level) as instance:
        instance.get("/slow/log/logs_in_every_way")
        instance.wait_for_output("the report failed")
        assert [entry["level"] for entry in of_the_task(instance)] == levels.split()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_task_that_prints_what_a_client_sends_breaks_no_line(log_format: str) -> None:
    chance = random.Random(1)
    start, forged = b"\x1e", logged.FORGED
    pieces = [*NASTY, start, b"\n", b'[40,"shop","', b'",null,null,{', b'"a":', b"}]", forged, forged[:-9]]
    with LoggingInstance(LOG_FORMAT=log_format) as instance:
        for _ in range(200):
            body = b"".join(chance.choices(pieces, k=chance.randrange(1, 30))) + b"\nthe end\n"
            assert request(instance.port, "/slow/print", "POST", body=body).status == 200
        instance.get("/slow/log/logs_in_a_child")
        instance.wait_for_output("the parent's")
        output = instance.raw_output
    text = output.decode()
    assert text.count(": the end") == 200
    assert " forged " in text or '"forged"' in text
    for line in text.split("\n")[:-1]:
        assert not CONTROLS.search(line), repr(line)
        if log_format == "json":
            json.dumps(json.loads(line, parse_constant=pytest.fail), ensure_ascii=False).encode()


class LoggingInstance(Instance):
    """An instance whose tasks log. Its own log need not say that it is ready."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Pool.SLOW, APP="tests.apps.logged:make_app", expected="", **settings)

    def wait_until_up(self) -> None:
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return self.get("/-/readyz").status == 200
        return False


def of_the_task(instance: Instance) -> list[dict[str, Any]]:
    return [entry for entry in entries(instance) if entry["logger"] == "shop.report"]


def test_a_job_of_a_websocket_that_fails_is_one_line_with_its_cause() -> None:
    async def talk(instance: Instance) -> object:
        async with websocket(f"ws://127.0.0.1:{instance.port}/talk/lambda") as connection:
            await connection.write_message("hello")
            return await connection.read_message()

    with Instance(Pool.SLOW, APP="tests.apps.unusual:make_app") as instance:
        assert asyncio.run(talk(instance)) is None
        instance.wait_for_output(r"slowpool \[\w+\] GET /talk/lambda: the task \S+<lambda> is a lambda")
        assert instance.output.count("GET /talk/lambda: ") == 1


@pytest.mark.parametrize("level", ["debug", "info"])
def test_the_level_is_a_setting(tmp_path: Path, level: str) -> None:
    (tmp_path / "talkative.py").write_text(
        "import logging, tornado.web\n\nlogging.getLogger('mine').debug('a detail')\n"
        "logging.getLogger('mine').info('news')\napp = tornado.web.Application()\n"
    )
    with Instance(Pool.FAST, path=tmp_path, APP="talkative:app", LOG_LEVEL=level) as instance:
        assert " INFO " in instance.output
        assert ("a detail" in instance.output) is (level == "debug")


CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NASTY = [
    *(bytes([number]) for number in range(256)),
    *(
        b"\x1b]0;owned\x07\x1b[2J",
        b"\xc2\x9b2J",
        b"\xed\xa0\x80",
        b"\xed\xb3\xbf",
        b"\xf0\x9f\x98\x80",
        b"\xe2\x80\xa8",
    ),
    *(
        b"\xe2\x80\xae",
        b"\\ud800",
        b"\\\\ud800",
        b"%ff%9b%1b",
        b"%00%0a%0d",
        b'"}',
        b"'",
        b"%s %d",
        b"?",
        b"{}",
        b"\r\n",
    ),
]
TOKEN = f"token={SECRET}".encode()
PATHS = [
    *(b"/fail", b"/refuse", b"/odd", b"/say", b"/socket", b"/static/none", b"/from/here", b"/slow/task"),
    *(b"/nothing", b"/-/status", b"/-/livez", b"http://x/fail", b"*", b"//"),
]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_holds_no_bytes_and_no_query_of_a_client_whatever_it_sends(log_format: str) -> None:
    chance = random.Random(1)
    with Instance(APP="tests.apps.careless:make_app", LOG_FORMAT=log_format, expected="") as instance:
        for _ in range(600):
            send(instance, message(chance))
        for nasty in NASTY:
            send(instance, post(b"/say", nasty))
            send(instance, post(b"/fail", nasty))
        asyncio.run(break_websocket(instance))
        send(instance, post(b"/say", b"the last"))
        instance.wait_for_output("it said the last")
        output = instance.raw_output
    lines = output.decode().split("\n")  # it is UTF-8
    assert len(lines) > 1000
    assert any("Uncaught exception GET" in line for line in lines)
    assert SECRET not in output.decode()
    for line in lines[:-1]:
        assert not CONTROLS.search(line), repr(line)
        if log_format == "json":
            assert "\t" not in line
            json.dumps(json.loads(line), ensure_ascii=False).encode()  # no half of a surrogate pair


def message(chance: random.Random) -> bytes:
    """A request of which some part is broken, with a secret in its query."""

    def nasty() -> bytes:
        return b"".join(chance.choices(NASTY, k=chance.randrange(4))) if chance.random() < 0.4 else b""

    method = chance.choice([b"GET", b"POST", b"HEAD", b"BREW", b""]) + nasty()
    target = chance.choice(PATHS) + nasty() + b"?" + nasty() + TOKEN + nasty()
    body = nasty()
    lines = [
        method + b" " + target + b" HTTP/1." + chance.choice([b"1", b"1", b"1", b"0", b"9"]),
        b"Host: localhost" + nasty(),
        b"Connection: close",
        b"X-Request-ID: " + nasty(),
        b"X-Header: " + nasty(),
        b"Referer: http://x/?" + nasty() + TOKEN,
        b"X" + nasty() + b": x",
        b"Content-Length: %d" % len(body) + nasty(),
        b"Content-Type: "
        + chance.choice(
            [b"text/plain", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"]
        )
        + nasty(),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def post(path: bytes, body: bytes) -> bytes:
    """A request with this body."""
    return b"POST %s?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        path,
        TOKEN,
        len(body),
        body,
    )


def send(instance: Instance, data: bytes) -> None:
    """Send it, and read what comes."""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", instance.port), 30) as sent,
    ):
        sent.sendall(data)
        sent.shutdown(socket.SHUT_WR)
        while sent.recv(65_536):
            pass


async def break_websocket(instance: Instance) -> None:
    """Have an open WebSocket fail."""
    async with websocket(f"ws://127.0.0.1:{instance.port}/socket?{TOKEN.decode()}") as opened:
        await opened.write_message("\x1b[2J")
        assert await opened.read_message() is None
