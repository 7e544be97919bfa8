"""Fixtures for the tests of accepted jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.job_stores import NO_VALKEY, VALKEY, FilePlace, Place, ServerPlace, ValkeyServer


@pytest.fixture
def file(tmp_path: Path) -> FilePlace:
    """A file that is not there yet."""
    return FilePlace(tmp_path / "state" / "jobs.sqlite")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server without data."""
    if not VALKEY:
        pytest.skip(NO_VALKEY)
    with ValkeyServer(tmp_path / "data") as server:
        yield server


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each kind of store."""
    kind = request.getfixturevalue(request.param)
    return kind if isinstance(kind, Place) else ServerPlace(kind.port)
