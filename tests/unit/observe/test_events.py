"""The last hundred events, of which each instance has a copy."""

import json
import time
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from slowpool.observe.events import MOST, Event, Events, make_event
from slowpool.observe.untrusted import MAX_TEXT
from tests.support.liars import ESCAPES, UNPRINTABLE

EVENTS = TypeAdapter(list[Event])


def event(**values: Any) -> dict[str, Any]:
    return {"id": "0123456789abcdef", "at": 7.5, "kind": "ready", "instance": "fast:1", "text": "x", **values}


def received(*events: dict[str, Any]) -> list[Event]:
    return EVENTS.validate_json(json.dumps(events))


def test_two_that_tell_each_other_know_the_same_events_in_the_order_of_time() -> None:
    one, other = Events("fast:1"), Events("fast:2")
    one.on_add = lambda event: other.merge([event])
    other.on_add = lambda event: one.merge([event])
    for number in range(3):
        one.add("ready", f"{number} of one")
        other.add("drain", f"{number} of the other")
    assert one.newest() == other.newest()
    assert [found["text"] for found in one.newest()][:2] == ["2 of the other", "2 of one"]
    assert one.newest()[0]["instance"] == "fast:2"


def test_one_that_comes_twice_or_by_two_ways_is_there_once() -> None:
    events = Events()
    events.merge(received(event(), event()))
    version = events.version
    events.merge(received(event(text="another text")))
    assert [found["text"] for found in events.newest()] == ["x"]
    assert events.version == version


def test_the_oldest_go_first_and_one_that_is_older_than_all_is_not_taken() -> None:
    events = Events()
    events.merge(received(*(event(id=f"{number:016x}", at=float(number)) for number in range(1, 200))))
    assert [found["at"] for found in events.newest()] == [float(at) for at in range(199, 199 - MOST, -1)]
    version = events.version
    events.merge(received(event(id="f" * 16, at=1.0)))
    assert events.version == version
    assert len(events.newest()) == MOST


def test_a_clock_that_is_ahead_does_not_keep_its_events_above_all_others() -> None:
    events = Events()
    events.merge(received(event(at=1e11)))
    assert events.newest()[0]["at"] <= time.time()
    events.add("ready", "later")
    assert events.newest()[0]["text"] == "later"


def test_a_clock_that_is_a_little_behind_changes_neither_times_nor_order() -> None:
    events, ahead = Events(), time.time() + 100
    told = [event(id=digit * 16, at=ahead + number) for number, digit in enumerate("fade")]
    events.merge(received(*told))
    assert events.newest() == told[::-1]


def test_a_text_is_printable_and_the_next_receiver_takes_it_too() -> None:
    events = Events("x" * 1000)
    events.add("act", ESCAPES * 20)
    events.merge(received(event(text=(ESCAPES * 20)[:MAX_TEXT], instance="\x1b" * MAX_TEXT)))
    again = received(*events.newest())
    assert [one.model_dump() for one in again] == events.newest()
    assert not any(UNPRINTABLE.search(one.text + one.instance) for one in again)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "short"},
        {"id": "0123456789ABCDEF"},
        {"id": "0123456789abcdef\n"},
        {"id": 7},
        {"at": -1},
        {"at": 1e13},
        {"at": "7"},
        {"at": None},
        {"kind": "Ready"},
        {"kind": "a" * 21},
        {"kind": "<b>"},
        {"text": "x" * (MAX_TEXT + 1)},
        {"text": ["x"]},
        {"instance": "x" * (MAX_TEXT + 1)},
    ],
)
def test_what_is_no_event_is_refused(wrong: dict[str, Any]) -> None:
    assert received(event())
    with pytest.raises(ValidationError):
        received(event(**wrong))


def test_an_event_of_now_can_be_sent() -> None:
    made = make_event("roll", "fast:8001", "x" * 1000)
    assert received(json.loads(made.model_dump_json())) == [made]
    assert len(made.text) == MAX_TEXT
