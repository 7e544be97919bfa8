"""Instances that tests only ask (a test that harms one starts its own), and an empty environment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import Config, Pool
from tests.process import Instance


@pytest.fixture(scope="session")
def demo() -> Iterator[Instance]:
    """Both pools' routes of the demo."""
    with Instance() as instance:
        yield instance


@pytest.fixture(scope="session")
def fast_demo() -> Iterator[Instance]:
    with Instance(Pool.FAST) as instance:
        yield instance


@pytest.fixture(scope="session")
def slow_demo() -> Iterator[Instance]:
    with Instance(Pool.SLOW) as instance:
        yield instance


@pytest.fixture(scope="session")
def controlled() -> Iterator[Instance]:
    """Both pools' routes of ``tests.apps.controlled``; whatever stands in its log is expected."""
    with Instance(ROUTES="tests.apps.controlled", expected="") as instance:
        yield instance


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a file ``.env`` says anything."""
    for name in Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
