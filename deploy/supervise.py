"""``python -m deploy.supervise fast|slow|local``: check the settings and run supervisor with them.

``fast`` and ``slow`` are a container of that pool; this process becomes supervisor. ``local`` is the
whole system on this machine, nginx included; this process stays, says when it is up, and passes on
the signals that end it.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy  # nosec B411  # supervisor answers, nobody else

from supervisor.xmlrpc import SupervisorTransport

from app.config import Config, Instance, Pool
from app.errors import ConfigError
from app.scheduling import SHORT_SLICE_SECONDS, request_slice
from deploy.nginx_choice import choose_nginx

ROOT = Path(__file__).resolve().parent.parent
SUPERVISORD = [sys.executable, "-m", "supervisor.supervisord", "-c", "deploy/supervisord.conf"]
CONTAINER_RUN_DIR = Path("/tmp/slowpool")  # nosec B108  # a tmpfs of the container's own
SETTLE_SECONDS = 3.0
"""supervisor is not told to stop before: a program that it has forked and that is not yet its own, about a
second after its start, would miss the signal, and supervisor would wait for all of ``stopwaitsecs``."""

OPEN_FILES = 65536
"""The soft limit of open files, where the hard one allows it: each connection is one, and the usual soft
limit of 1024 is from the days of select(2)."""

SOCKET_PATH_MAX = 90
"""Bytes of the path of a unix socket (108 on Linux), less what supervisor appends to it."""


def local_run_dir(config: Config) -> Path:
    """Where a local run keeps supervisor's socket and what nginx is configured from."""
    return ROOT / ".run" / str(config.http_port)


def supervisor_api(run_dir: Path) -> Any:
    """supervisor's own XML-RPC interface; its methods raise OSError when no supervisor answers there."""
    transport = SupervisorTransport(None, None, f"unix://{run_dir}/supervisor.sock")
    return ServerProxy("http://127.0.0.1", transport=transport).supervisor


def raise_open_files() -> None:
    """Allow this process, and all that it starts, as many open files as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    with contextlib.suppress(ValueError):  # a system with a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main() -> int:
    """Run the programs that the command line names; returns the exit status."""
    os.chdir(ROOT)
    try:
        config = Config.load()
        raise_open_files()
        request_slice(SHORT_SLICE_SECONDS)  # inherited by all but the slow instances, which reset it
        match sys.argv[1:]:
            case ["local"]:
                return _run_local(config)
            case ["fast" | "slow" as pool]:
                environ = _environ(config, CONTAINER_RUN_DIR, programs=pool, address="0.0.0.0")  # nosec B104  # in a container
                os.execve(sys.executable, SUPERVISORD, environ)
            case _:
                raise ConfigError("usage: python -m deploy.supervise fast|slow|local")
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return 2


def _environ(config: Config, run_dir: Path, *, programs: str, address: str) -> dict[str, str]:
    """The environment of supervisor and of all that it starts."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        **os.environ,
        **config.environ(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "RUN_DIR": str(run_dir),
        "PROGRAMS": programs,
        "LISTEN_ADDRESS": address,
        "STOP_WAIT_SECONDS": str(config.stop_wait_seconds),
        "REPLICA": "" if programs == "*" else socket.gethostname(),  # a container's short id
    }


def _run_local(config: Config) -> int:
    instances = [*config.instances(Pool.FAST), *config.instances(Pool.SLOW)]
    _check_ports(config, instances)
    run_dir = local_run_dir(config)
    if len(os.fsencode(run_dir / "supervisor.sock")) > SOCKET_PATH_MAX:
        raise ConfigError(f"the path {ROOT} is too long for a unix socket; move the project")
    environ = _environ(config, run_dir, programs="*", address="127.0.0.1")
    environ |= {"ADMIN_ADDRESS": "127.0.0.1", "RESOLVER": ""}
    environ |= choose_nginx(environ, run_dir)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    supervisor = subprocess.Popen(
        SUPERVISORD,
        env=environ,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    threading.Thread(target=_pass_on, args=(supervisor,), daemon=True).start()
    settled_at = time.monotonic() + SETTLE_SECONDS

    probes = [f"http://127.0.0.1:{instance.port}/readyz" for instance in instances]
    probes.append(f"http://127.0.0.1:{config.admin_port}/livez")
    while probes and supervisor.poll() is None and not stop.wait(0.05):
        probes = [url for url in probes if not _answers(url)]
    if not probes:
        secure = f"https://localhost:{config.https_port}/" if config.tls_certificate else ""
        _say(f"slowpool: is up, at {secure or f'http://localhost:{config.http_port}/'}")
    while supervisor.poll() is None and not stop.wait(0.2):
        pass
    if stop.is_set():
        _say("slowpool: drains and stops")
        time.sleep(max(0, settled_at - time.monotonic()))
        _close_websockets(run_dir)
        supervisor.terminate()
        return supervisor.wait()
    print("slowpool: ended because a program could not run; its reason stands above", file=sys.stderr)
    return supervisor.returncode or 1


def _close_websockets(run_dir: Path) -> None:
    """End what does not end by itself: nginx stops first, and waits for its connections."""
    with contextlib.suppress(OSError, Fault):
        api = supervisor_api(run_dir)
        api.stopProcess("nginx:nginx", False)  # it takes no new ones from now on
        api.signalProcessGroup("fast", "USR1")


def _pass_on(supervisor: subprocess.Popen[bytes]) -> None:
    """Print what supervisor and its programs say; supervisor could not live with a terminal that has gone."""
    assert supervisor.stdout
    while data := os.read(supervisor.stdout.fileno(), 65536):
        with contextlib.suppress(OSError):
            os.write(1, data)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def _check_ports(config: Config, instances: list[Instance]) -> None:
    """Raise ConfigError when something else, or two settings, have one of the ports."""
    everywhere = "0.0.0.0"  # nosec B104  # only to see whether a port is free
    wanted = [("HTTP_PORT", everywhere, config.http_port), ("ADMIN_PORT", "127.0.0.1", config.admin_port)]
    if config.tls_certificate:
        wanted.append(("HTTPS_PORT", everywhere, config.https_port))
    wanted += [(f"{i.pool.upper()}_PORT", i.address, i.port) for i in instances]
    held = []
    try:
        for name, address, port in wanted:
            held.append(listener := socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port))
                listener.listen()
            except OSError as error:
                raise ConfigError(
                    f"port {port} ({name}) cannot be had: {error.strerror}; choose another, as in "
                    f"{name}={port + 1000} ./deploy/local"
                ) from error
    finally:
        for listener in held:
            listener.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # nosec B310  # of main's own
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    sys.exit(main())
