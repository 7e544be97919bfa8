"""The command of a hint is pasted, as it is written, and does what the hint says."""

import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.basics import ROOT, environment
from tests.support.gate import Gate
from tests.support.process import Process
from tests.support.system import ONE_EACH, Family, System


class Pasted(System):
    """What a command starts that runs ``./deploy/local`` again, in a shell without its settings."""

    def __init__(self, command: str, before: System) -> None:
        self.settings, self.folder = before.settings, before.folder
        self.port, self.admin_port = before.port, before.admin_port
        self._harmed = False
        self.family = Family()
        self.env = {**environment({}), **self.family.environment}
        Process.__init__(self, ["env", *shlex.split(command)], ROOT, self.env)


def test_a_stopped_system_starts_again_on_its_ports_with_more_workers(
    gate: Gate, background: ThreadPoolExecutor
) -> None:
    settings: dict[str, Any] = {"APP": "tests.apps.controlled:make_app", "SLOW_QUEUE": 0, "SLOW_WORKERS": 1}
    with System(**ONE_EACH, **settings) as system:
        answer = background.submit(system.get, gate("/slow/task"))
        gate.wait_for(1)
        (hint,) = (hint for hint in status(system)["hints"] if hint.startswith("The slow pool is full"))
        (command,) = re.findall("`(.* ./deploy/local)`", hint)
        gate.open()
        assert answer.result().text == "released"
    with Pasted(command, system) as again:
        assert again.get("/slow/echo/1").text == "/slow/echo/1"
        assert status(system)["pools"]["slow"]["workers"] == 2


def status(system: System) -> Any:
    """``python -m slowpool status --json``."""
    command = [sys.executable, "-m", "slowpool", "status", "--json"]
    return json.loads(subprocess.check_output(command, cwd=ROOT, env=system.env, text=True, timeout=30))
