"""The system in containers, as ``docker compose up`` runs it."""

import json
import os
import re
import subprocess
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.basics import ROOT, environment, free_ports
from tests.support.client import Response, request
from tests.support.leftovers import new_name

Line = tuple[datetime, str]


class Compose:
    """``docker-compose.yml`` as a project of its own, on ports of its own.

    ``changed_by`` is a file that changes it for the test: its health is asked for more often. ``folder`` is
    the checkout or a copy, and the settings ``left_to_file`` come from its ``.env``.
    """

    def __init__(
        self,
        changed_by: str = "tests/deploy/health.yml",
        folder: Path = ROOT,
        left_to_file: Collection[str] = (),
        **settings: object,
    ) -> None:
        self.folder = folder
        self.port, self.admin_port = free_ports(), free_ports()
        ports = {"HTTP_PORT": self.port, "ADMIN_PORT": self.admin_port}
        project = {
            "COMPOSE_PROJECT_NAME": new_name(),
            "COMPOSE_FILE": f"docker-compose.yml:{changed_by}",
        }
        self.env = {**environment({**ports, **settings}), **project}
        for name in left_to_file:
            del self.env[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self("logs", "--tail=40", check=False).stdout[-8_000:])
        self("down", "--volumes", "--remove-orphans", "--timeout=10")
        # Not by `down --rmi`: it can fail when services share an image (docker/compose#9763).
        project = f"--filter=label=com.docker.compose.project={self.env['COMPOSE_PROJECT_NAME']}"
        if images := set(docker("image", "ls", "--quiet", project).split()):
            docker("image", "rm", "--force", *images)

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose``."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def get(self, target: str, method: str = "GET", **options: Any) -> Response:
        """One request through nginx."""
        return request(self.port, target, method, **options)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of each container of a service, the stopped ones too."""
        names = self("ps", "--all", "--quiet", service).stdout.split()
        if not names:
            return []
        found: list[dict[str, Any]] = json.loads(docker("inspect", *names))
        return found

    def addresses(self, service: str) -> set[str]:
        """The addresses of a service's containers."""
        return {address(container) for container in self.containers(service)}


def docker(*arguments: str) -> str:
    """Run ``docker`` and return what it prints, on either stream."""
    done = subprocess.run(
        ["docker", *arguments],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def address(container: dict[str, Any]) -> str:
    """The address of a container in its project's network."""
    (network,) = container["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def log(container: dict[str, Any]) -> list[Line]:
    """The lines of a container's log, each with the engine's time."""
    lines = [line.partition(" ") for line in docker("logs", "--timestamps", container["Id"]).splitlines()]
    return [(moment(time), text) for time, _, text in lines]


def moment(time: str) -> datetime:
    """A time of the engine, which counts nanoseconds, where Python counts microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1Z", time))
