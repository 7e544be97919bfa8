"""The variables of the environment and of the file ``.env``."""

import os
from pathlib import Path

import pytest

from slowpool.config import Config
from slowpool.environment import export_file, in_file, settings


@pytest.fixture(autouse=True)
def file(nothing_set: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file ``.env`` of this test, whose environment is a copy."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return tmp_path / ".env"


def test_every_variable_of_the_file_is_exported_but_those_that_are_set(file: Path) -> None:
    file.write_text("SHOP_KEY='a$b#c'\nSHOP_EMPTY=\nshop_lower=1\nDEBUG=yes\nHOME=/elsewhere\n")
    home = os.environ["HOME"]
    export_file()
    names = ("SHOP_KEY", "SHOP_EMPTY", "shop_lower", "DEBUG", "HOME")
    assert [os.environ[name] for name in names] == ["a$b#c", "", "1", "yes", home]


def test_a_setting_has_the_text_of_the_environment_or_else_of_the_file(file: Path) -> None:
    file.write_text("slow_queue=03\nSLOW_WORKERS=4\nDEBUG=yes\nHTTP_PORT=\nSHOP_KEY=1\n")
    os.environ |= {"SLOW_WORKERS": "2", "DEBUG": "", "SHOP_NAME": "x"}
    assert settings() == {"SLOW_QUEUE": "03", "SLOW_WORKERS": "2", "DEBUG": "yes"}


def test_a_program_of_supervisor_does_not_read_the_file(file: Path) -> None:
    file.write_text("SLOW_QUEUE=3\nSHOP_KEY=1\n")
    os.environ["SLOWPOOL_RUN_DIR"] = "/run"
    assert in_file() == {}
    assert Config.load().slow_queue == 8
