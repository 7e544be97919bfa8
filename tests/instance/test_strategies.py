"""Every way to run slow work, in one instance."""

import re

import pytest

from tests.support.process import Instance

STRATEGIES = [
    "slow",
    "stall",
    "slow_threaded",
    "report",
    "slow/worker",
    "slow/thread",
    "slow/process",
    "slow/executor",
    "slow/pool",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_same_answer(demo: Instance, strategy: str) -> None:
    for _ in range(2):
        response = demo.get(f"/{strategy}?id=7&n=200")
        assert response.status == 200
        assert re.fullmatch(r"slow result 7 <--- \d+\.\d{3} s", response.text)
    assert demo.get(f"/{strategy}?id=7&n=0").problem()["status"] == 400


def test_the_pool_answers_what_a_task_returned_and_the_traceback_of_what_it_raised(demo: Instance) -> None:
    first, second, traceback = demo.get("/slow/test").text.split("\n", 2)
    assert (first, second) == ("done", "Caught an exception: ")
    assert "Traceback (most recent call last)" in traceback
    assert "Exception: eeee" in traceback
    assert "in fail" in traceback
