"""nginx/render, nginx/start, and the configuration that they write."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane
import psutil

from tests.support.basics import ROOT, environment, free_ports, wait_until
from tests.support.client import request
from tests.support.process import Process

DOCKER = {
    "PUBLIC_HTTPS_PORT": "8443",
    "FAST_HOST": "fast",
    "SLOW_HOST": "slow",
    "ADMIN_ADDRESS": "0.0.0.0",
    "RESOLVER": "127.0.0.11",
}
LOCAL = {
    "PUBLIC_HTTPS_PORT": "",
    "FAST_HOST": "127.0.0.1",
    "SLOW_HOST": "127.0.0.1",
    "ADMIN_ADDRESS": "127.0.0.1",
    "RESOLVER": "",
}


FAULTS = "nginx/render: warning: nginx/"
"""The beginning of the line about an nginx with known faults."""


@dataclass(frozen=True)
class Directive:
    """One directive, and the names of the blocks around it."""

    name: str
    arguments: list[str]
    blocks: tuple[str, ...]


def render_environment(
    settings: Mapping[str, object] | None = None, where: Mapping[str, str] = DOCKER
) -> dict[str, str]:
    """The environment of nginx/render, with the nginx of this test environment in PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**environment(settings or {}), **where, "PATH": path}


def render(folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run nginx/render."""
    return subprocess.run(
        [ROOT / "nginx" / "render", folder], env=dict(env), capture_output=True, text=True, timeout=30
    )


class Nginx(Process):
    """``nginx/start`` in a folder; its pid is that of nginx's master process."""

    def __init__(self, folder: Path, env: Mapping[str, str], source: Path = ROOT / "nginx") -> None:
        self.folder = folder
        self.port, self.admin_port, self.https_port = (
            int(env[f"{name}_PORT"]) for name in ("HTTP", "ADMIN", "HTTPS")
        )
        super().__init__([source / "start", folder], ROOT, env)

    def wait_until_up(self) -> None:
        wait_until(lambda: _is_alive(self))


def nginx(
    folder: Path,
    settings: Mapping[str, object] | None = None,
    where: Mapping[str, str] = LOCAL,
    source: Path = ROOT / "nginx",
) -> Nginx:
    """nginx on free ports, with these settings, from the files in ``source``; up once entered."""
    ports = {f"{name}_PORT": free_ports() for name in ("HTTP", "ADMIN", "HTTPS")}
    return Nginx(folder, render_environment({**ports, **(settings or {})}, where), source)


def _is_alive(server: Nginx) -> bool:
    """Whether it answers; a port can also listen while the configuration is checked."""
    assert server.running, server.output
    try:
        return request(server.admin_port, "/livez").status == 200
    except OSError:
        return False


def awks_of(server: Nginx, program: str) -> list[psutil.Process]:
    """The processes that run this program of nginx/ for it."""
    return [
        process
        for process in psutil.process_iter(["name", "environ", "cmdline"])
        if "awk" in process.info["name"]
        and any(Path(argument).name == program for argument in process.info["cmdline"] or [])
        and (process.info["environ"] or {}).get("HTTP_PORT") == str(server.port)
    ]


def nginx_faults() -> str:
    """The known faults of this test environment's nginx; empty for none."""
    command = [str(ROOT / "nginx" / "render"), "--faults"]
    return subprocess.run(command, env=render_environment(), capture_output=True, text=True).stdout


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of nginx/render on stderr, without the one about the version of nginx."""
    return [line for line in done.stderr.splitlines() if not line.startswith(FAULTS)]


def parse(folder: Path) -> dict[str, Any]:
    """A rendered configuration, parsed by crossplane."""
    parsed: dict[str, Any] = crossplane.parse(str(folder / "nginx.conf"))
    assert parsed["status"] == "ok", parsed["errors"]
    return parsed


def directives(folder: Path) -> list[Directive]:
    """Every directive of a rendered configuration, includes resolved."""
    parsed = parse(folder)
    files = parsed["config"]

    def walk(block: list[dict[str, Any]], blocks: tuple[str, ...]) -> Iterator[Directive]:
        for entry in block:
            yield Directive(entry["directive"], entry["args"], blocks)
            for included in entry.get("includes", []):
                yield from walk(files[included]["parsed"], blocks)
            name = " ".join([entry["directive"], *entry["args"]])
            yield from walk(entry.get("block", []), (*blocks, name))

    return list(walk(files[0]["parsed"], ()))


def seconds(text: str) -> float:
    """The seconds of a time such as ``65s`` or ``1d``."""
    return float(text[:-1]) * {"s": 1, "d": 86_400}[text[-1]]
