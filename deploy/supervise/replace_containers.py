"""``deploy/rolling-restart --compose [fast|slow]``: build the image and replace the containers.

It starts as many new containers as there are old ones. Once all new ones are ready, the old ones drain and
are removed, one at a time. If a new one is not ready in time, all new ones are removed and the old ones stay.
Nothing changes while the settings of the running nginx do not fit the new containers.
It runs where ``docker compose`` does, and needs only Python. A container tells the instances of its events.
"""

import contextlib
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

NGINX_SETTINGS = Path(__file__).resolve().parents[2] / "nginx" / "settings.sh"
"""Has the default of each setting that nginx reads: a line ``KIND NAME DEFAULT …``."""

READY_SECONDS = 120.0
"""How long a new container has to become ready."""

FOLLOWED_SECONDS = 3.0
"""The time until nginx sends requests to a ready container: it queries the engine's DNS each second."""

TELL_SECONDS = 10.0
"""How long a container may take to tell the instances of an event."""

SERVICES = ("fast", "slow")

UPSTREAMS = ("FAST_HOST", "FAST_PORT", "FAST_PROCESSES", "SLOW_HOST", "SLOW_PORT", "SLOW_PROCESSES")
"""The settings by which nginx finds the instances; nginx and the instances must have the same values."""

TIMEOUTS = ("SLOW_TIMEOUT_SECONDS", "DRAIN_TIMEOUT_SECONDS")
"""Settings that must not be smaller in nginx than in the instances."""


class CannotReplace(Exception):
    """A service could not be replaced; its old containers stay."""


def main() -> int:
    """Replace the containers of the services on the command line; returns the exit status."""
    services = sys.argv[1:] or list(SERVICES)
    if not set(services) <= set(SERVICES):
        print("usage: deploy/rolling-restart [--compose] [fast|slow]", file=sys.stderr)
        return 2
    try:
        unfit = unfit_settings()
    except subprocess.CalledProcessError as error:
        print(f"rolling-restart: {' '.join(error.cmd)}: {_reason(error.stderr)}", file=sys.stderr)
        return 1
    if unfit:
        print(
            f"rolling-restart: nothing was touched, since nginx runs with {_text(unfit)}; {_advice(unfit)}",
            file=sys.stderr,
        )
        return 1
    tell(f"begins to replace the containers of {' and '.join(services)}")
    for service in services:
        try:
            replace(service)
        except CannotReplace as error:
            tell(f"the containers of {service} stay as they were: {error}")
            print(f"rolling-restart: the containers of {service} stay as they were: {error}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            failed = " ".join(error.cmd)
            tell(f"cannot replace the containers of {service}: {failed}")
            print(f"rolling-restart: {service}: {failed}: {_reason(error.stderr)}", file=sys.stderr)
            return 1
    tell(f"has replaced the containers of {' and '.join(services)}")
    if stale := stale_settings():
        print(
            f"rolling-restart: nginx still runs with {_text(stale)}; docker compose up -d --no-deps nginx "
            "updates it, and refuses connections until the new one runs",
            file=sys.stderr,
        )
    return 0


def unfit_settings() -> dict[str, tuple[str, str]]:
    """Name -> (value in the running nginx, new value), of settings that do not fit new instances."""
    stale = stale_settings()
    return {
        name: stale[name]
        for name in (*UPSTREAMS, *TIMEOUTS)
        if name in stale and (name in UPSTREAMS or _number(stale[name][0]) < _number(stale[name][1]))
    }


def stale_settings() -> dict[str, tuple[str, str]]:
    """Name -> (value in the running nginx, new value), of settings that have changed."""
    service = json.loads(docker("compose", "config", "--format", "json"))["services"].get("nginx")
    if service is None:
        return {}  # another proxy is in front
    stale = {}
    defaults = _defaults()
    containers = _containers("nginx")
    for found in json.loads(docker("inspect", *containers)) if containers else []:
        running = dict(line.split("=", 1) for line in found["Config"]["Env"] if "=" in line)
        for name, value in service["environment"].items():
            default = defaults.get(name, "")  # also of an empty one
            old, new = running.get(name) or default, default if value in (None, "") else str(value)
            if old != new:
                stale[name] = (old, new)
    return stale


def _defaults() -> dict[str, str]:
    lines = [shlex.split(line, comments=True) for line in NGINX_SETTINGS.read_text().splitlines()]
    return {line[1]: line[2] for line in lines if line}


def _text(changes: dict[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name}={old} (new: {new})" for name, (old, new) in changes.items())


def _advice(unfit: dict[str, tuple[str, str]]) -> str:
    if any(name.endswith(("_PORT", "_HOST")) for name in unfit):
        return "run docker compose up -d, which replaces all; the system is down until the new ones are ready"
    return (
        "first run docker compose up -d --no-deps nginx: the old nginx answers its open requests and "
        "ends, and connections are refused until the new one runs"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def replace(service: str) -> None:
    """Replace the containers of a service. Raises CannotReplace if a new one is not ready in time."""
    old = _containers(service)
    if not old:
        raise CannotReplace("no container runs")
    try:
        _scale(service, 2 * len(old), "--build")
        new = [container for container in _containers(service) if container not in old]
        for container in new:
            _wait_until_ready(container)
        time.sleep(FOLLOWED_SECONDS)
    except (CannotReplace, subprocess.CalledProcessError, KeyboardInterrupt):
        _remove([container for container in _containers(service, "--all") if container not in old])
        raise
    for container in old:
        tell(f"{service}: {container[:12]} drains and is removed", "restart")
        docker("stop", container)  # it drains, for at most the stop_grace_period of the service
        _remove([container])
        print(f"rolling-restart: {service}: {container[:12]} has drained and was removed", flush=True)
    _scale(service, len(new))


def tell(text: str, kind: str = "roll") -> None:
    """Have one of the containers tell the instances; those of an older release do not know how."""
    with contextlib.suppress(subprocess.SubprocessError):
        for container in [container for service in SERVICES for container in _containers(service)]:
            command = ["docker", "exec", container, "python", "-m", "deploy.supervise.events", kind, text]
            with contextlib.suppress(subprocess.TimeoutExpired):
                if not subprocess.run(command, capture_output=True, timeout=TELL_SECONDS).returncode:
                    return


def docker(*arguments: str) -> str:
    """Run ``docker`` and return its output. Raises CalledProcessError."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def _containers(service: str, *options: str) -> list[str]:
    return docker("compose", "ps", "--quiet", *options, service).split()


def _scale(service: str, count: int, *options: str) -> None:
    scale = ["--no-deps", "--no-recreate", f"--scale={service}={count}", *options]
    docker("compose", "up", "--detach", *scale, service)


def _remove(containers: list[str]) -> None:
    if containers:
        docker("rm", "--force", *containers)


def _wait_until_ready(container: str) -> None:
    """Run the container's own health check until it passes; the engine runs it too seldom."""
    (found,) = json.loads(docker("inspect", container))
    check = found["Config"]["Healthcheck"]["Test"][1:]
    deadline = time.monotonic() + READY_SECONDS
    while True:
        done = subprocess.run(["docker", "exec", container, *check], capture_output=True, text=True)
        if done.returncode == 0:
            return
        (found,) = json.loads(docker("inspect", container))
        name = found["Name"].lstrip("/")
        if found["RestartCount"] or not found["State"]["Running"]:
            raise CannotReplace(f"{name} has ended: {_reason(_log(container))}")
        if time.monotonic() > deadline:
            raise CannotReplace(f"{name} is not ready within {READY_SECONDS:g} s: {done.stderr.strip()}")
        time.sleep(1)


def _log(container: str) -> str:
    """The output of a container, stdout and stderr."""
    logs = subprocess.run(
        ["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return logs.stdout


def _reason(text: str) -> str:
    """The last line that begins with ``slowpool:``, or else the last line."""
    lines = text.strip().splitlines() or ["no output"]
    own = [line for line in lines if line.startswith("slowpool: ")]
    return (own or lines)[-1]


if __name__ == "__main__":
    sys.exit(main())
