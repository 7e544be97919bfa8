"""The figures as text, and as tables in a terminal."""

import io
import json
import re

import pytest
from rich.console import Console, RenderableType

from slowpool.config import Config, Pool
from slowpool.status import plain, tables
from slowpool.status.overview import Overview
from slowpool.status.seen import Seen
from tests.support.liars import ESCAPES, UNPRINTABLE, job

ADDRESS = "127.0.0.1"


def content(**more: object) -> plain.Json:
    """An overview with a slow instance that has a job, and what other instances may send."""
    overview = Overview(Config(fast_host=ADDRESS, slow_host=ADDRESS))
    overview._seen = {(ADDRESS, 8101): Seen(Pool.SLOW, ADDRESS, 8101, 0)}
    answer = job(job="00c0ffee00c0ffee", task="shop.draw", route="/report", request_id="mine", progress=0.4)
    overview._seen[ADDRESS, 8101].update(json.dumps(answer), 0)
    found = overview.content()
    found["instances"][0] |= more.pop("instance", {})
    return {**found, **more}


def drawn(renderable: RenderableType, width: int) -> str:
    """What a terminal of this width shows, without colours."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(renderable)
    return file.getvalue()


WAITS = {
    "job": "0badcafe0badcafe",
    "task": "shop.draw",
    "route": "/report",
    "request_id": "next",
    "age_seconds": 2.5,
}
FAILED = {
    "job": "1",
    "task": "shop.draw",
    "route": "/report",
    "request_id": "r",
    "ended": 940.0,
    "outcome": "died",
    "error": "KeyError: 7",
}
CANCELLED = {"at": 997.0, "kind": "act", "instance": "fast:8001", "text": "job x was cancelled"}


def test_jobs_that_run_and_wait_are_rows_and_what_is_unknown_is_left_out() -> None:
    title, running, waiting = plain.jobs(content(instance={"waiting_jobs": [WAITS]})).splitlines()
    assert title.split() == [name for name, _ in plain.JOBS]
    assert re.match(
        r"00c0ffee00c0ffee  running  .* 40 %  .*shop\.draw  /report  slow:8101 at 127\.0\.0\.1", running
    )
    assert re.match(
        r"0badcafe0badcafe  waiting  2\.5 s  .*shop\.draw  /report  slow:8101 at .* next$", waiting
    )


def test_without_a_job_it_says_so() -> None:
    assert plain.jobs(content(instances=[])) == "no job runs or waits"
    assert drawn(tables.jobs(content(instances=[])), 100) == "no job runs or waits\n"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_tables_show_instances_jobs_hints_events_and_failures(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = content(time=1000.0, hints=["run `make`"], events=[CANCELLED], failures=[FAILED])
    text = drawn(tables.status(shown), width)
    assert "slow:8101" in text
    assert "00c0ffee" in text
    assert "run `make`" in text
    assert "act fast:8001: job x was cancelled" in text
    assert "shop.draw died 1 min ago: KeyError: 7: /report (r)" in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= width


def test_no_text_of_an_instance_is_markup_or_a_control_character() -> None:
    for text in (ESCAPES, "[red]x[/red]", "[link=http://evil.example]x"):
        shown = content(hints=[text], instance={"waiting_jobs": [{**WAITS, "task": text, "route": text}]})
        for picture in (drawn(tables.status(shown), 400), drawn(tables.jobs(shown), 400), plain.jobs(shown)):
            assert not UNPRINTABLE.search(picture.replace("\n", ""))
            assert text not in ("[red]x[/red]",) or text in picture
