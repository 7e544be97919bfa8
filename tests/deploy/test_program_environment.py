"""The environment of supervisor and its programs."""

import os
from pathlib import Path

import pytest

from deploy.supervise import run
from slowpool.config import Config
from slowpool.environment import export_file


@pytest.fixture(autouse=True)
def own_environment(nothing_set: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of this test is a copy."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def program_environment(folder: Path, file: str) -> dict[str, str]:
    """What the programs have with this file ``.env``."""
    Path(".env").write_text(file)
    config = Config.load()
    export_file()
    return run._environ(config, folder / "run", programs="fast", address="127.0.0.1")


def test_an_application_sees_a_setting_as_it_is_written_and_none_that_is_not_set(tmp_path: Path) -> None:
    found = program_environment(tmp_path, "DEBUG=yes\nslow_queue=03\nSHOP_KEY='a$b'\nREPLICA=blue\n")
    names = ("DEBUG", "SLOW_QUEUE", "SHOP_KEY", "REPLICA")
    assert [found[name] for name in names] == ["yes", "03", "a$b", "blue"]
    own = {name.upper() for name in Config.model_fields} & found.keys()
    of_supervisor = {"FAST_PORT", "FAST_PROCESSES", "SLOW_PORT", "SLOW_PROCESSES"}
    assert own == {"DEBUG", "SLOW_QUEUE", *of_supervisor}


def test_a_program_has_the_settings_of_the_start_whatever_has_become_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = program_environment(tmp_path, "SLOW_QUEUE=3\nSLOW_TIMEOUT_SECONDS=30\n")
    before = Config.load()
    Path(".env").write_text("SLOW_QUEUE=4\nLOG_LEVEL=debug\n")
    monkeypatch.setattr(os, "environ", environ)
    assert Config.load() == before
