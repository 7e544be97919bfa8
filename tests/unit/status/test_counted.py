"""The figures of a pool have every request once, whoever keeps the steps of an instance that has ended."""

import json
from typing import Any

import pytest

from slowpool.config import Config, Pool
from slowpool.observe.history import step_number
from slowpool.status.overview import Overview
from slowpool.status.seen import Seen
from tests.support.liars import said, step

FIRST, SECOND, THIRD = ("1" * 16, "2" * 16, "3" * 16)


@pytest.fixture
def overview() -> Overview:
    """Of two fast instances; each test tells what they report."""
    overview = Overview(Config(fast_host="127.0.0.1", slow_host="127.0.0.1"))
    for port in (8001, 8002):
        overview._seen["127.0.0.1", port] = Seen(Pool.FAST, "127.0.0.1", port, 0)
    return overview


def tell(overview: Overview, port: int, process: str, requests: int, **inherited: int) -> None:
    """A report of a process; ``inherited`` has a number of requests for all that its processes had."""
    values: dict[str, Any] = {"process_id": process, "inherited": None}
    values["steps"] = {str(step_number()): step(requests=requests, blocks={"/a": float(requests)})}
    if inherited:
        steps = {str(step_number() - 1): step(requests=sum(inherited.values()), blocks={"/b": 0.5})}
        processes = {name.strip("p"): step_number() for name in inherited}
        values["inherited"] = {"processes": processes, "steps": steps}
    overview._seen["127.0.0.1", port].update(json.dumps(said(**values)), 0)


def counted(overview: Overview) -> int:
    content = overview.content()
    in_steps: int = sum(one["requests"] for one in content["steps"]["fast"].values())
    assert in_steps == content["pools"]["fast"]["requests"]
    return in_steps


def test_what_an_instance_has_left_to_another_is_counted_once(overview: Overview) -> None:
    tell(overview, 8001, FIRST, 10)
    tell(overview, 8002, SECOND, 5)
    assert counted(overview) == 15
    tell(overview, 8002, SECOND, 5, **{f"p{FIRST}": 12})  # two more while it drained
    assert counted(overview) == 17
    tell(overview, 8001, THIRD, 1)  # it is back
    assert counted(overview) == 18
    assert [one["requests"] for one in overview.content()["instances"]] == [11, 5]


def test_what_is_inherited_stays_until_a_report_has_more_of_it(overview: Overview) -> None:
    tell(overview, 8002, SECOND, 5, **{f"p{FIRST}": 12})
    tell(overview, 8002, SECOND, 6)
    assert counted(overview) == 18
    assert overview._blocks() == {"/a": 6.0, "/b": 0.5}


def test_a_whole_rolling_restart_changes_no_total(overview: Overview) -> None:
    tell(overview, 8001, FIRST, 10)
    tell(overview, 8002, SECOND, 5)
    tell(overview, 8002, SECOND, 5, **{f"p{FIRST}": 10})
    tell(overview, 8001, THIRD, 0)
    tell(overview, 8001, THIRD, 0, **{f"p{FIRST}": 10, f"p{SECOND}": 5})
    assert counted(overview) == 15
    tell(overview, 8002, "4" * 16, 0)
    assert counted(overview) == 15


def test_one_that_was_killed_has_left_nothing_and_is_still_counted(overview: Overview) -> None:
    tell(overview, 8001, FIRST, 10)
    tell(overview, 8001, THIRD, 3)
    assert counted(overview) == 13


def test_a_clock_that_is_set_back_is_no_restart() -> None:
    seen = Seen(Pool.FAST, "127.0.0.1", 8001, 0)
    for process, uptime, lost in ((FIRST, 12.0, False), (FIRST, -5.0, False), (SECOND, 60.0, True)):
        seen.update(json.dumps(said(process_id=process, uptime_seconds=uptime)), 1)
        assert bool(seen.lost_at) is lost


def test_one_of_an_older_release_was_restarted_when_it_is_younger() -> None:
    seen = Seen(Pool.FAST, "127.0.0.1", 8001, 0)
    for uptime, lost in ((12.0, False), (13.0, False), (1.0, True)):
        seen.update(json.dumps(said(process_id="", uptime_seconds=uptime)), 1)
        assert bool(seen.lost_at) is lost


def test_however_often_an_instance_ends_few_of_its_processes_are_kept(overview: Overview) -> None:
    for number in range(100):
        tell(overview, 8001, f"{number:016x}", 1)
    assert counted(overview) == 20


def test_an_instance_was_lost_when_its_process_is_another_one_and_not_when_its_clock_goes_back() -> None:
    seen = Seen(Pool.FAST, "127.0.0.1", 8001, 0)
    for uptime in (12.5, 3.0):
        seen.update(json.dumps(said(process_id=FIRST, uptime_seconds=uptime)), 5)
    assert seen.content(7)["lost_seconds"] is None
    seen.update(json.dumps(said(process_id=SECOND, uptime_seconds=99.0)), 6)
    assert seen.content(7)["lost_seconds"] == 1
    assert seen.content(7)["process_id"] == SECOND
