"""The settings that a roll of the containers compares."""

import json
import os
from pathlib import Path

import pytest

from deploy.supervise import replace_containers


@pytest.mark.parametrize(
    ("running", "new", "stale"),
    [
        ({"SLOW_PER_CLIENT": "4"}, {"SLOW_PER_CLIENT": None}, {}),
        ({"SLOW_PER_CLIENT": "4"}, {"SLOW_PER_CLIENT": ""}, {}),
        ({}, {"SLOW_PER_CLIENT": "4"}, {}),
        ({"SERVER_NAMES": ""}, {"SERVER_NAMES": None}, {}),
        ({}, {"PUBLIC_HTTPS_PORT": None}, {}),
        ({"SLOW_PER_CLIENT": "6"}, {"SLOW_PER_CLIENT": None}, {"SLOW_PER_CLIENT": ("6", "4")}),
        ({}, {"SLOW_PER_CLIENT": 0}, {"SLOW_PER_CLIENT": ("4", "0")}),
        ({"RESOLVER": "127.0.0.11"}, {"RESOLVER": "127.0.0.1"}, {"RESOLVER": ("127.0.0.11", "127.0.0.1")}),
    ],
)
def test_a_setting_that_is_empty_or_absent_has_its_default(
    monkeypatch: pytest.MonkeyPatch,
    running: dict[str, str],
    new: dict[str, object],
    stale: dict[str, tuple[str, str]],
) -> None:
    environment = [f"{name}={value}" for name, value in running.items()]
    printed = {
        "config": json.dumps({"services": {"nginx": {"environment": new}}}),
        "ps": "0123456789ab\n",
        "inspect": json.dumps([{"Config": {"Env": ["PATH", *environment]}}]),
    }
    monkeypatch.setattr(
        replace_containers,
        "docker",
        lambda *arguments: printed[arguments[1] if arguments[0] == "compose" else arguments[0]],
    )
    assert replace_containers.stale_settings() == stale


def test_the_first_container_that_knows_how_tells_the_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    engine = tmp_path / "docker"
    engine.write_text(
        f"""#!/bin/sh
case "$*" in
"compose ps --quiet fast") echo older hangs newer newest ;;
"compose ps --quiet slow") echo slow ;;
"exec older"*) exit 1 ;;
"exec hangs"*) exec sleep 1000 ;;
*) echo "$@" >> {told} ;;
esac
"""
    )
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(replace_containers, "TELL_SECONDS", 1.0)
    replace_containers.tell("begins")
    assert told.read_text() == "exec newer python -m deploy.supervise.events roll begins\n"
    engine.write_text("#!/bin/sh\nexit 1\n")
    replace_containers.tell("the engine has gone")
