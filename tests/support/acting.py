"""A fast and a slow instance on which an operator acts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from slowpool.config import Pool
from slowpool.status.act import ACT, USER
from tests.support.basics import free_ports
from tests.support.client import Response, request
from tests.support.process import APPS, Instance, app_environment
from tests.support.report import report_of

HEADERS = {ACT: "1", USER: "ada"}
SETTINGS: dict[str, Any] = {"FAST_PROCESSES": 1, "SLOW_PROCESSES": 1, "SLOW_WORKERS": 1, "LOG_FORMAT": "json"}


class Deployment:
    """A fast and a slow instance that know of each other, without supervisor."""

    def __init__(self, folder: Path) -> None:
        self.settings = {**SETTINGS, "FAST_PORT": free_ports(), "SLOW_PORT": free_ports()}
        self.settings["JOBS_URL"] = f"sqlite://{folder}/jobs.sqlite"
        options: dict[str, Any] = {"APP": "tests.apps.later:make_app", "expected": "has failed|worker"}
        self.fast = Instance(Pool.FAST, port=self.settings["FAST_PORT"], **options, **self.settings)
        self.slow = Instance(Pool.SLOW, port=self.settings["SLOW_PORT"], **options, **self.settings)

    def act(self, **wish: str) -> Response:
        """What the page asks for, of the fast instance."""
        return act(self.fast, **wish)

    def terminal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``slowpool`` with these arguments, without a terminal."""
        env = app_environment(APPS, self.settings)
        command = [sys.executable, "-m", "slowpool", *arguments]
        return subprocess.run(
            command, cwd=APPS, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def running(self) -> list[dict[str, Any]]:
        running: list[dict[str, Any]] = report_of(self.slow)["running"]
        return running

    def logged(self, text: str) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.slow.wait_for_output(text))
        return line


def act(asked: Instance, /, **wish: str) -> Response:
    """What the page of this instance asks for."""
    return request(asked.port, "/-/status/act", "POST", headers=HEADERS, body=json.dumps(wish).encode())


def own(instance: Instance, action: str, **headers: str) -> Response:
    """An action of this instance."""
    return request(instance.port, f"/-/act/{action}", "POST", headers={**HEADERS, **headers}, body=b"")
