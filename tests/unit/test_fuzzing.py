"""Settings that hypothesis makes up: each is a valid Config or an error that names it."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpool.config import MAX_CPU, Config, Pool, parse_cpus
from slowpool.errors import ConfigError
from tests.support.basics import DEFAULTS
from tests.support.nginx import render, render_environment

ODD = [" 8 ", "8.0", "1_000", "0x10", "+5", "٣", "nan", "inf", "1e-05", "1e308", "9" * 5000, "1\n2", "\u2028"]
EDGES = [0, 1, 19, 20, 256, 257, 8191, 8192, 65_535, 65_536, 86_400, 90_000, 2**63 - 1, 2**63]
VALUES = st.one_of(
    st.sampled_from([*ODD, *map(str, EDGES), *map(str, DEFAULTS.values())]),
    st.integers().map(str),
    st.floats().map(str),
    st.text("0123456789,- \t"),
    st.binary(max_size=50).map(lambda value: os.fsdecode(value.replace(b"\0", b""))),
)
ANY_BYTES = st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode))


@st.composite
def sound(draw: st.DrawFn) -> dict[str, object]:
    """Settings at and around the edges of what goes together."""
    slow = draw(st.floats(0, 80_000, exclude_min=True))
    drain = slow + 3 + draw(st.one_of(st.just(0), st.floats(-1, 1_000)))
    return {
        "SLOW_TIMEOUT_SECONDS": slow,
        "DRAIN_TIMEOUT_SECONDS": drain,
        "STOP_GRACE_SECONDS": int(drain) + 10 + draw(st.integers(0, 3)),
        "FAST_HOST": draw(st.sampled_from(["fast", "Fast.example", "10.0.0.1"])),
        "FAST_PORT": draw(st.integers(65_530, 65_535)),
        "FAST_PROCESSES": draw(st.integers(1, 6)),
        "SLOW_CPUS": ",".join(map(str, draw(st.sets(st.sampled_from(sorted(os.sched_getaffinity(0))))))),
        "SLOW_MAX_MEMORY_BYTES": draw(st.sampled_from([0, 2**30, 2**63 - 1, 2**63])),
    }


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)), VALUES, min_size=1, max_size=4))
@pytest.mark.usefixtures("nothing_set")
def test_any_settings_are_a_config_or_one_line_that_names_one_of_them(environment: dict[str, str]) -> None:
    with set_to(environment):
        try:
            config = Config.load()
        except ConfigError as error:
            (line,) = str(error).splitlines()
            assert any(name in line for name in environment)
        else:
            assert_holds_together(config)


@given(sound())
@pytest.mark.usefixtures("nothing_set")
def test_settings_are_accepted_exactly_when_they_go_together(values: dict[str, float]) -> None:
    together = (
        values["SLOW_TIMEOUT_SECONDS"] >= 0.001
        and values["SLOW_TIMEOUT_SECONDS"] + 3 <= values["DRAIN_TIMEOUT_SECONDS"]
        and int(values["DRAIN_TIMEOUT_SECONDS"]) + 10 < values["STOP_GRACE_SECONDS"]
        and values["FAST_PORT"] + values["FAST_PROCESSES"] - 1 <= 65_535
        and values["SLOW_MAX_MEMORY_BYTES"] < 2**63
    )
    with set_to(values):
        if together:
            assert_holds_together(Config.load())
        else:
            with pytest.raises(ConfigError, match=r"TIMEOUT_SECONDS|FAST_PORT|SLOW_MAX_MEMORY_BYTES"):
                Config.load()


@given(sound())
@settings(max_examples=settings().max_examples // 20)
@pytest.mark.usefixtures("nothing_set")
def test_nginx_takes_what_the_config_takes(tmp_path: Path, values: dict[str, object]) -> None:
    with set_to({**values, "FAST_PROCESSES": 1, "STOP_GRACE_SECONDS": 90_000}):
        try:
            config = Config.load()
        except ConfigError:
            return
        done = render(tmp_path, {**render_environment(), **config.environ()})
    assert done.returncode == 0, done.stderr


ENDS = st.one_of(st.integers(0, 9), st.integers(MAX_CPU - 9, MAX_CPU + 9))
RANGES = st.builds("{}-{}".format, ENDS, ENDS)


@given(st.one_of(st.lists(RANGES).map(",".join), st.text("0123456789,- "), st.text()))
def test_a_text_is_a_list_of_cpus_or_a_value_error_that_says_what_it_may_be(text: str) -> None:
    try:
        cpus = parse_cpus(text)
    except ValueError as error:
        assert re.search("not a list of CPUs such as|the highest CPU number is", str(error))
    else:
        assert max(cpus, default=0) <= MAX_CPU
        said = {int(number) for number in re.findall(r"\d+", text)}
        assert said <= cpus <= set(range(min(said, default=0), max(said, default=0) + 1))


@given(st.sets(st.integers(0, MAX_CPU)))
def test_every_set_of_cpus_can_be_said(cpus: set[int]) -> None:
    assert parse_cpus(",".join(map(str, cpus))) == cpus


@contextmanager
def set_to(values: Mapping[str, object]) -> Iterator[None]:
    """The environment with these settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, str(value))
        yield


def assert_holds_together(config: Config) -> None:
    """The invariants of every Config."""
    assert 3 < config.slow_timeout_seconds + 3 <= config.drain_timeout_seconds
    assert config.drain_timeout_seconds < config.stop_wait_seconds < config.stop_grace_seconds
    for pool in (Pool.FAST, Pool.SLOW):
        instances = config.instances(pool)
        assert 1 <= instances[0].port <= instances[-1].port <= 65_535
    assert config.worker_cpus <= os.sched_getaffinity(0)
    with set_to(config.environ()):
        assert Config.load() == config
