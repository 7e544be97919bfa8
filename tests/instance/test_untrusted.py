"""Whatever an instance says of itself, the page and the terminal show the others, and nothing that acts."""

import asyncio
import contextlib
import json
import math
import re
import socket
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from slowpool.config import Config, Instance, Pool
from slowpool.instance import State
from slowpool.observe.history import STEPS, step_number
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.server import assemble
from slowpool.status.overview import Overview, Seen
from slowpool.status.report import Report
from slowpool.status.terminal import _text
from tests.support.basics import ROOT, environment, free_ports
from tests.support.liars import (
    ESCAPES,
    Serve,
    closes,
    frame,
    http,
    job,
    one_step,
    said,
    served,
    silent,
    step,
    web_socket,
)

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
ADDRESS = "127.0.0.1"


def seen(*answers: str | bytes) -> tuple[Overview, Seen]:
    """An overview of one sound instance of each pool and of one that has said this."""
    config = Config(fast_processes=2, slow_processes=1, fast_host=ADDRESS, slow_host=ADDRESS)
    overview = Overview(config)
    overview._seen = {
        (ADDRESS, port): Seen(pool, ADDRESS, port, 0)
        for pool, port in ((Pool.FAST, 8001), (Pool.FAST, 8002), (Pool.SLOW, 8101))
    }
    for one in overview._seen.values():
        one.update(json.dumps(said()), 0)
    liar = overview._seen[ADDRESS, 8002]
    for answer in answers:
        try:
            liar.update(answer, 0)
        except ValidationError as error:
            liar.disconnect(str(error), "unreadable")
    return overview, liar


def assert_harmless(overview: Overview) -> None:
    """All that is shown is text, numbers are finite, and the other instances are there."""
    content = overview.content()
    parsed = json.loads(json.dumps(content), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert [one["state"] for one in parsed["instances"]][::2] == ["ready", "ready"]
    text = _text(content)
    lines = 1 + 2 + 3 + sum(len(one.get("running", [])) for one in content["instances"])
    assert len(text.split("\n")) == lines + len(content["hints"])
    assert not UNPRINTABLE.search(text.replace("\n", ""))
    assert not any(UNPRINTABLE.search(shown) for shown in texts(content))
    text.encode()


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


REFUSED: dict[str, str | bytes] = {
    "not JSON": "hello",
    "nothing": "",
    "not UTF-8": b"\xff\xfe\x00",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "nested": "[" * 100_000,
    "nested objects": '{"state":' * 100_000,
    "NaN": json.dumps(said(uptime_seconds=math.nan)),
    "Infinity": json.dumps(said(uptime_seconds=math.inf)),
    "a huge float": json.dumps(said()).replace("12.5", "1e999"),
    "a huge integer": json.dumps(said(resident_bytes=10**30)),
    "an integer of many digits": json.dumps(said(active=7)).replace(
        '"active": 7', '"active": ' + "9" * 10_000
    ),
    "a negative count": json.dumps(said(active=-1)),
    "a fraction": json.dumps(said(waiting=0.5)),
    "a text for a number": json.dumps(said(active="x")),
    "a truth for a number": json.dumps(said(active=True)),
    "no jobs": json.dumps(said(running=None)),
    "a number of jobs": json.dumps(said(running=3)),
    "jobs that are none": json.dumps(said(running=["x"])),
    "too many jobs": json.dumps(job() | {"running": job()["running"] * 2000}),
    "escapes in its state": json.dumps(said(state=ESCAPES)),
    "a number for a state": json.dumps(said(state=5)),
    "a long state": json.dumps(said(state="a" * 50)),
    "a long route": json.dumps(job(route="a" * (MAX_TEXT + 1))),
    "a surrogate": json.dumps(job(route="\ud800")),
    "an endless age": json.dumps(job(age_seconds=math.inf)),
    "steps that are no numbers": json.dumps(said(steps={"x": step()})),
    "a list of steps": json.dumps(said(steps=[step()])),
    "a bucket that overflows": json.dumps(one_step(latency={"1000000": 1})),
    "a bucket below the first": json.dumps(one_step(latency={"-1": 1})),
    "a negative count of requests": json.dumps(one_step(requests=-(10**9))),
    "a latency that is NaN": json.dumps(one_step(lag_seconds=math.nan)),
    "a block for ever": json.dumps(one_step(blocks={"/": math.inf})),
    "a number of blocks": json.dumps(one_step(blocks=3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_report_is_refused_and_the_others_are_shown(name: str) -> None:
    overview, liar = seen(REFUSED[name])
    assert liar.state == "unreadable"
    assert_harmless(overview)
    hints = overview.content()["hints"]
    assert any("fast:8002 at 127.0.0.1 answers what cannot be read" in hint for hint in hints)


@pytest.mark.parametrize("field", list(Report.model_fields))
@pytest.mark.parametrize("value", [None, "x", -1, 1e300, [], {}, [[]], {"a": {}}, True, "9" * 5000])
def test_no_field_of_another_type_does_harm(field: str, value: object) -> None:
    assert_harmless(seen(json.dumps(said(**{field: value})))[0])
    without = said()
    del without[field]
    assert seen(json.dumps(without))[1].state == "unreadable"


@pytest.mark.parametrize("text", [ESCAPES, "a" * MAX_TEXT, "<img src=x>", "%s%n", "ü€😀", "\u0301" * 99])
def test_every_text_of_a_report_is_shown_as_text(text: str) -> None:
    overview, liar = seen(
        json.dumps(job(route=text, request_id=text)), json.dumps(one_step(blocks={text: 1.0}))
    )
    assert liar.state == "ready"
    assert_harmless(overview)
    overview, _ = seen(json.dumps(job(route=text, request_id=text)))
    assert_harmless(overview)
    assert printable("ü€😀 <b>") == "ü€😀 <b>"


def test_fields_of_a_newer_release_are_ignored_and_name_nobody_else() -> None:
    overview, liar = seen(
        json.dumps(said(name="slow:1", pool="slow", port=1, error="x", state="ready", new=1))
    )
    assert liar.state == "ready"
    shown = overview.content()["instances"][1]
    assert (shown["name"], shown["pool"], shown["port"]) == ("fast:8002", "fast", 8002)
    assert "new" not in shown


def test_steps_of_another_time_are_not_kept_however_often_they_come() -> None:
    now = step_number()
    answers = []
    for number in range(20):
        numbers = [
            *range(now - 3, now + 1),
            *range(now + 100 * number, now + 100 * number + 1000, 7),
            -number,
        ]
        answers.append(json.dumps(said(steps={str(at): {"requests": 1} for at in numbers})))
    overview, liar = seen(*answers)
    assert len(liar.steps) <= STEPS
    assert max(liar.steps) <= step_number() + 1
    assert_harmless(overview)


def test_routes_that_block_are_named_as_far_as_somebody_reads_them() -> None:
    overview, _ = seen(json.dumps(one_step(blocks={f"/{number}": number / 1000 for number in range(5000)})))
    hints = overview.content()["hints"]
    assert "/4999 blocked its fast instance for 5.00 s" in hints[0]
    assert "4990 more routes" in hints[-1]
    assert len(hints) == 11


RAW_ESCAPES = ESCAPES.replace("\n", "").replace("\r", "").encode()
MEGABYTE = bytes(1 << 20)
SILENT, CLOSED, UNREADABLE = "has not answered", "it closed the connection", "answers what cannot be read"
EMPTY = b"\r\nContent-Length: 0\r\n\r\n"
LIARS: dict[str, tuple[Serve, str]] = {
    "escapes": (web_socket(frame(json.dumps(said(state=ESCAPES)).encode())), UNREADABLE),
    "escapes in a sound answer": (web_socket(frame(json.dumps(job(route=ESCAPES)).encode())), ""),
    "binary": (web_socket(frame(bytes(99), opcode=2)), UNREADABLE),
    "not UTF-8": (web_socket(frame(b"\xff\xfe")), CLOSED),
    "100 MB": (web_socket(struct.pack("!BBQ", 129, 127, 100 << 20), *[MEGABYTE] * 100), CLOSED),
    "100 MB in parts": (
        web_socket(frame(b"[", final=False), *[frame(MEGABYTE[:99_999], 0, False)] * 1000),
        CLOSED,
    ),
    "a close with escapes": (web_socket(frame(b"\x03\xe8" + RAW_ESCAPES[:100], opcode=8)), CLOSED),
    "a flood of pings": (web_socket(*[b"\x89\x01x"] * 10_000), "no answer in time"),
    "a reason with escapes": (http(b"HTTP/1.1 500 " + RAW_ESCAPES + EMPTY), SILENT),
    "a reason of C1": (http(b"HTTP/1.1 500 \x9b31m" + EMPTY), SILENT),
    "a long reason": (http(b"HTTP/1.1 500 " + b"a" * 60_000 + EMPTY), "500: aaa"),
    "a page": (http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), UNREADABLE),
    "a page of 90 MB": (
        http(b"HTTP/1.1 200 OK\r\nContent-Length: 94371840\r\n\r\n", *[MEGABYTE] * 90),
        "fast:",
    ),
    "a redirect": (http(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/" + EMPTY), "HTTP 302"),
    "half a handshake": (http(b"HTTP/1.1 101 x\r\nUpgrade: no\r\nConnection: no\r\n\r\n"), SILENT),
    "no HTTP": (http(RAW_ESCAPES * 100 + b"\r\n\r\n"), SILENT),
    "endless headers": (http(b"HTTP/1.1 101 x\r\n", *[b"a: b\r\n" * 9999] * 99), SILENT),
    "nothing": (silent, "no answer in time"),
    "the end": (closes, SILENT),
}

STATUS = """
import re, sys
from slowpool.status.terminal import main
status = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print(re.findall("VmHWM: *(.*)", file.read().replace("\\t", " "))[0], file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize("name", LIARS)
def test_one_that_lies_stops_neither_the_terminal_nor_the_figures_of_the_others(name: str) -> None:
    serve, text = LIARS[name]

    async def run() -> None:
        first = free_ports(3)
        config = Config(fast_processes=2, slow_processes=1, fast_port=first, slow_port=first + 2)
        settings = {"FAST_PROCESSES": 2, "SLOW_PROCESSES": 1, "FAST_PORT": first, "SLOW_PORT": first + 2}
        sound = []
        for pool, port in ((Pool.FAST, first), (Pool.SLOW, first + 2)):
            app = assemble(config, Instance(pool, port))
            app.runtime.state = State.READY
            sound.append(HTTPServer(app))
            sound[-1].add_sockets(bind_sockets(port, ADDRESS, family=socket.AF_INET))

        try:
            with served(serve, first + 1):
                shown, errors, status = await status_of(settings)
                shown_as_json, _, _ = await status_of(settings, "--json")
            assert status == (1 if text else 0)
            assert text in shown
            assert len(re.findall(r"^(?:fast|slow):\d+ +127\.0\.0\.1 +ready", shown, re.MULTILINE)) == 2 + (
                not text
            )
            assert not UNPRINTABLE.search(shown.replace("\n", ""))
            assert max(map(len, shown.splitlines())) < 12 * MAX_TEXT
            (peak,) = re.findall(r"\A(\d+) kB\Z", errors.strip())
            assert int(peak) < 80_000
            content = json.loads(shown_as_json, parse_constant=lambda constant: pytest.fail(constant))
            assert [one["state"] for one in content["instances"]][::2] == ["ready", "ready"]
        finally:
            for server in sound:
                server.stop()
                await server.close_all_connections()

    asyncio.run(run())


async def status_of(settings: dict[str, int], *options: str) -> tuple[str, str, int]:
    """What ``python -m slowpool status`` prints, its errors and its most memory, and its exit status."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STATUS, *options, cwd=ROOT, env=environment(settings), stdout=PIPE, stderr=PIPE
    )
    output, errors = await child.communicate()
    assert child.returncode is not None
    return output.decode(), errors.decode(), child.returncode


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**12, 10**12 + 1, -1, 2**63, 10**400])
    | st.floats()
    | st.text()
    | st.text("\x1b[\x9b\n\u202e\u2028", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.one_of(st.just(str(step_number())), st.integers().map(str), st.text(max_size=5))
STEP = st.fixed_dictionaries(
    {}, optional={name: VALUES | st.just(value) for name, value in step().items()}
) | st.builds(
    lambda latency, blocks: step(latency=latency, blocks=blocks),
    st.dictionaries(st.integers(-1, 200).map(str), st.integers(-1, 10**13), max_size=5),
    st.dictionaries(st.text(max_size=20), st.floats(-1, 1e11), max_size=5),
)
JOB = st.fixed_dictionaries(
    {"route": st.text(), "request_id": st.text(), "age_seconds": st.floats(-1, 1e11) | st.integers()}
)
SAID = st.builds(
    lambda changes, steps, running: said(steps=steps, running=running) | changes,
    st.dictionaries(st.sampled_from(sorted(said())), VALUES, max_size=2),
    st.dictionaries(KEYS, STEP, max_size=3),
    st.lists(JOB, max_size=3),
)


@given(st.one_of(SAID.map(json.dumps), VALUES.map(json.dumps), st.text(), st.binary(max_size=50)))
@example(json.dumps(one_step(latency={"149": 10**12})))
@example(json.dumps(said(uptime_seconds=1e10, resident_bytes=10**12)))
def test_whatever_an_instance_says_is_harmless(answer: str | bytes) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # no WebSocket message: a surrogate has no UTF-8
        assert_harmless(seen(answer)[0])
