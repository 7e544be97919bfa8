"""A fast handler that blocks its instance is logged, with the line that did it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.client import request
from tests.support.metrics import value
from tests.support.process import Instance

BUDGET_SECONDS = 0.2


@pytest.fixture
def fast() -> Iterator[Instance]:
    with Instance(
        Pool.FAST,
        APP="tests.apps.watched:make_app",
        FAST_BLOCK_BUDGET_SECONDS=BUDGET_SECONDS,
        expected=r"blocked its instance",
    ) as instance:
        yield instance


def blocks(instance: Instance) -> float:
    return value(instance, "event_loop_blocked_seconds_count", http_route="/report/{name}")


def test_a_handler_that_blocks_is_logged_with_its_route_its_time_and_the_guilty_line(fast: Instance) -> None:
    assert fast.get("/report/tea?seconds=0.6&secret=1").status == 200
    line = fast.wait_for_output("blocked its instance")
    found = re.search(
        r"WARNING fast:\d+ slowpool.loop .* /report/\{name\} blocked its instance for (\S+) s and goes "
        r"to the slow pool for now, at watched.py:\d+, in build_report; `await slowpool.run",
        line,
    )
    assert found, line
    assert float(found[1]) > BUDGET_SECONDS
    assert "time.sleep(seconds)  # the guilty line" in fast.output.splitlines()[-1]
    assert "tornado" not in fast.output.partition("The stack:")[2], "only the handler's own frames"
    assert "secret" not in fast.output
    assert blocks(fast) == 1
    assert value(fast, "event_loop_blocked_seconds_sum", http_route="/report/{name}") == pytest.approx(
        float(found[1]), abs=0.01
    )


def test_one_that_stays_within_the_budget_is_not_logged() -> None:
    with Instance(Pool.FAST, APP="tests.apps.watched:make_app", FAST_BLOCK_BUDGET_SECONDS=30) as fast:
        assert fast.get("/report/tea?seconds=0.5").status == 200
        fast.wait_for_output("slowpool.access")
        assert "blocked" not in fast.output
        assert blocks(fast) == 0


def test_one_that_does_not_come_back_is_logged_before_it_is_killed(fast: Instance) -> None:
    assert fast.get("/report/tea?seconds=6").status == 200
    lines = [line for line in fast.output.splitlines() if "blocked its instance" in line]
    assert "so far" in lines[0]


def test_a_block_in_a_server_of_the_applications_own_does_not_end_the_watch() -> None:
    with Instance(
        Pool.FAST,
        APP="tests.apps.unusual:make_app",
        FAST_BLOCK_BUDGET_SECONDS=BUDGET_SECONDS,
        expected="blocked its instance",
    ) as instance:
        own_port = int(instance.get("/own-port").text)
        assert request(own_port, "/block?seconds=0.6").text == "blocked"
        instance.wait_for_output("something other than a handler blocked its instance")
        assert instance.get("/coroutine?seconds=0.6").status == 200
        instance.wait_for_output("/coroutine blocked its instance")


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="only Linux says how long a thread waits"
)
def test_a_handler_that_waits_for_a_cpu_does_not_block_its_instance(fast: Instance) -> None:
    with busy_cpu() as cpu:
        os.sched_setaffinity(fast.pid, {cpu})
        started_at = time.monotonic()
        assert fast.get(f"/compute?seconds={BUDGET_SECONDS / 2}").status == 200
        assert time.monotonic() - started_at > 2 * BUDGET_SECONDS, "it had the CPU for itself"
    assert "blocked" not in fast.output
    assert fast.get("/compute?seconds=0").headers["X-Accel-Redirect"] is None


@contextmanager
def busy_cpu() -> Iterator[int]:
    """A CPU on which other processes of several sessions compute."""
    cpu = min(os.sched_getaffinity(0))
    script = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    with ExitStack() as others:
        for _ in range(10):
            other = subprocess.Popen(
                [sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, start_new_session=True
            )
            others.enter_context(other)
            others.callback(other.kill)
            assert other.stdout
            assert other.stdout.readline()
        yield cpu


def test_neither_a_slow_instance_nor_one_with_a_budget_of_0_watches() -> None:
    for pool, budget, path in ((Pool.SLOW, 0.1, "/slow/report"), (Pool.FAST, 0, "/report/tea")):
        with Instance(pool, APP="tests.apps.watched:make_app", FAST_BLOCK_BUDGET_SECONDS=budget) as instance:
            assert instance.get(f"{path}?seconds=0.5").status == 200
            instance.wait_for_output("slowpool.access")
            assert "blocked" not in instance.output
