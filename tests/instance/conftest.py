"""Instances that tests share. A test that harms an instance starts its own."""

from collections.abc import Iterator

import pytest

from slowpool.config import Pool
from tests.support.process import Instance


@pytest.fixture(scope="package")
def demo() -> Iterator[Instance]:
    """The demo in one instance, as during development."""
    with Instance() as instance:
        yield instance


@pytest.fixture(scope="package")
def fast_demo() -> Iterator[Instance]:
    with Instance(Pool.FAST) as instance:
        yield instance


@pytest.fixture(scope="package")
def slow_demo() -> Iterator[Instance]:
    with Instance(Pool.SLOW) as instance:
        yield instance


@pytest.fixture(scope="package")
def controlled() -> Iterator[Instance]:
    """The same of ``tests.apps.controlled``; its log may hold anything."""
    with Instance(APP="tests.apps.controlled:make_app", expected="") as instance:
        yield instance
