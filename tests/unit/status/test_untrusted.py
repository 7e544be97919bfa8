"""A wrong report of one instance hides no other instance, and its text is shown as text only."""

import contextlib
import json
import math
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from slowpool.config import Config, Pool
from slowpool.observe.history import STEPS, step_number
from slowpool.observe.untrusted import MAX_TEXT, printable
from slowpool.status import plain
from slowpool.status.overview import Overview
from slowpool.status.report import Report
from slowpool.status.seen import Seen
from tests.support.liars import (
    ESCAPES,
    UNPRINTABLE,
    failure,
    job,
    one_step,
    route,
    said,
    step,
    waiting_job,
)

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
        overview.take(one, json.dumps(said()))
    liar = overview._seen[ADDRESS, 8002]
    for answer in answers:
        try:
            overview.take(liar, answer)
        except ValidationError as error:
            liar.disconnect(str(error), "unreadable")
    return overview, liar


def assert_harmless(overview: Overview) -> None:
    """All that is shown is text, numbers are finite, and the other instances are there."""
    content = overview.content()
    parsed = json.loads(json.dumps(content), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert [one["state"] for one in parsed["instances"]][::2] == ["ready", "ready"]
    text = plain.status(content)
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
    "more than all of it": json.dumps(job(progress=1.5)),
    "progress that is NaN": json.dumps(job(progress=math.nan)),
    "a long message": json.dumps(job(message="a" * (MAX_TEXT + 1))),
    "steps that are no numbers": json.dumps(said(steps={"x": step()})),
    "a list of steps": json.dumps(said(steps=[step()])),
    "a bucket that overflows": json.dumps(one_step(latency={"1000000": 1})),
    "a bucket below the first": json.dumps(one_step(latency={"-1": 1})),
    "a negative count of requests": json.dumps(one_step(requests=-(10**9))),
    "a latency that is NaN": json.dumps(one_step(lag_seconds=math.nan)),
    "a block for ever": json.dumps(one_step(blocks={"/": math.inf})),
    "waiting jobs without a place": json.dumps(said(waiting_jobs=[waiting_job(place=None)])),
    "too many waiting jobs": json.dumps(said(waiting_jobs=[waiting_job()] * 51)),
    "memory below nothing": json.dumps(job(resident_bytes=-1)),
    "CPU time for ever": json.dumps(job(cpu_seconds=math.inf)),
    "too many routes": json.dumps(said(routes={"1": {f"/{number}": route() for number in range(102)}})),
    "a route without end": json.dumps(said(routes={"1": {"a" * (MAX_TEXT + 1): route()}})),
    "a queue that is NaN": json.dumps(said(routes={"1": {"/": route(queue_seconds=math.nan)}})),
    "a list of routes": json.dumps(said(routes=[route()])),
    "too many failures": json.dumps(said(failures=[failure()] * 101)),
    "a failure at the end of time": json.dumps(said(failures=[failure(ended=1e13)])),
    "a number of blocks": json.dumps(one_step(blocks=3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_report_is_refused_and_the_others_are_shown(name: str) -> None:
    overview, liar = seen(REFUSED[name])
    assert liar.state == "unreadable"
    assert_harmless(overview)
    hints = overview.content()["hints"]
    assert any("fast:8002 at 127.0.0.1 sends an unreadable report" in hint for hint in hints)


@pytest.mark.parametrize("field", list(Report.model_fields))
@pytest.mark.parametrize("value", [None, "x", -1, 1e300, [], {}, [[]], {"a": {}}, True, "9" * 5000])
def test_no_field_of_another_type_does_harm(field: str, value: object) -> None:
    assert_harmless(seen(json.dumps(said(**{field: value})))[0])
    without = said()
    del without[field]
    is_known = Report.model_fields[field].is_required()  # an older instance does not tell the others
    assert seen(json.dumps(without))[1].state == ("unreadable" if is_known else "ready")


@pytest.mark.parametrize("text", [ESCAPES, "a" * MAX_TEXT, "<img src=x>", "%s%n", "ü€😀", "\u0301" * 99])
def test_every_text_of_a_report_is_shown_as_text(text: str) -> None:
    overview, liar = seen(
        json.dumps(job(route=text, request_id=text, task=text, message=text)),
        json.dumps(one_step(blocks={text: 1.0})),
    )
    assert liar.state == "ready"
    assert_harmless(overview)
    overview, _ = seen(json.dumps(job(route=text, request_id=text, task=text, message=text, job=text)))
    assert_harmless(overview)
    texts_of_a_job = dict.fromkeys(("job", "task", "route", "request_id"), text)
    overview, liar = seen(
        json.dumps(
            said(
                routes={str(step_number()): {text: route()}},
                failures=[failure(**texts_of_a_job, outcome=text, error=text)],
                waiting_jobs=[waiting_job(**texts_of_a_job)],
            )
        )
    )
    assert liar.state == "ready"
    assert_harmless(overview)
    assert printable(text) in [row["route"] for row in overview.content()["routes"]]
    assert printable(text) in [row["error"] for row in overview.content()["failures"]]
    assert printable("ü€😀 <b>") == "ü€😀 <b>"
    assert printable("a\u200db\u00ad\ufeff") == r"a\u200db\xad\ufeff"


def test_a_report_of_an_older_instance_without_progress_and_workers_is_shown() -> None:
    older = said()
    for name in ("workers", "template", "forks", "waiting_jobs", "routes", "failures"):
        del older[name]
    (running,) = older["running"]
    for name in ("job", "task", "worker", "progress", "message", "deadline_seconds", "cpu_seconds"):
        del running[name]
    overview, one = seen(json.dumps(older))
    assert one.state == "ready"
    assert_harmless(overview)


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
    (process,) = liar.processes.values()
    assert len(process.steps.by_number) <= STEPS
    assert liar.last_step <= step_number() + 1
    assert_harmless(overview)


def test_routes_that_block_are_named_as_far_as_somebody_reads_them() -> None:
    overview, _ = seen(json.dumps(one_step(blocks={f"/{number}": number / 1000 for number in range(5000)})))
    hints = overview.content()["hints"]
    assert "/4999 blocked its fast instance for 5.00 s" in hints[0]
    assert "4990 more routes" in hints[-1]
    assert len(hints) == 11


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
    {"route": st.text(), "request_id": st.text(), "age_seconds": st.floats(-1, 1e11) | st.integers()},
    optional={
        "task": st.text(),
        "message": st.text(),
        "progress": st.none() | st.floats() | st.integers(),
        "worker": st.integers(),
    },
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
