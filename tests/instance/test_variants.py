"""The instances that the benchmark compares with a whole one lack what their name says, and nothing else."""

import re
from contextlib import ExitStack

import pytest

from tests.bench.systems import fast_instance
from tests.support.basics import free_ports, wait_until
from tests.support.client import request


@pytest.mark.parametrize(
    ("variant", "requests", "samples", "threads"),
    [
        ("whole", 3, True, 0),
        ("without_metrics", 0, False, 0),
        ("without_loop_watch", 3, False, -1),
        ("unwatched", 0, False, -1),
    ],
)
def test_a_variant_lacks_only_what_its_name_says(
    variant: str, requests: int, samples: bool, threads: int
) -> None:
    """``threads`` is how many more it has than a whole instance."""
    first = free_ports(2)
    with ExitStack() as stack:
        whole = stack.enter_context(fast_instance(first))
        other = stack.enter_context(fast_instance(first + 1, variant))
        for _ in range(2):  # and the one for which fast_instance has waited
            assert request(first + 1, "/fast?id=1").text == "fast result 1"
        assert request(first, "/fast?id=1").status == 200
        wait_until(lambda: _metric(first, "event_loop_lag_seconds_count") > 2)
        assert _metric(first + 1, "http_server_request_duration_seconds_count") == requests
        assert (_metric(first + 1, "event_loop_lag_seconds_count") > 0) == samples
        assert other.num_threads() - whole.num_threads() == threads


def _metric(port: int, name: str) -> float:
    """The sum of its samples; 0 without one."""
    text = request(port, "/-/metrics").text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (.+)$", text, re.MULTILINE))
