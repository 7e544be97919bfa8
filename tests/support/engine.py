"""The Docker engine, for tests that need one."""

import shutil
import subprocess

import pytest

from tests.support.skipped import WITHOUT_ENGINE


def _works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


COMPOSE = _works("docker", "compose", "version")
ENGINE = COMPOSE and _works("docker", "info")

needs_compose = pytest.mark.skipif(not COMPOSE, reason=WITHOUT_ENGINE)
needs_engine = pytest.mark.skipif(not ENGINE, reason=WITHOUT_ENGINE)
