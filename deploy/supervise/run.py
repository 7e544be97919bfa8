"""``python -m deploy.supervise fast|slow|local``: check the settings and run supervisor with them.

``fast`` and ``slow`` are a container of that pool; this process becomes supervisor. ``local`` is the
whole system on this machine, nginx included; this process stays, says when it is up, and ends it in
order when it is told to, or at once when it is told to again.
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
from xmlrpc.client import ServerProxy  # nosec B411  # supervisor answers, nobody else

from supervisor.xmlrpc import SupervisorTransport

from deploy.supervise.checks import CheckFailed, check_nginx, check_routes
from deploy.supervise.nginx_choice import choose_nginx
from deploy.supervise.stop import Signals, say, stop
from slowpool.config import Config, Instance, Pool
from slowpool.errors import ConfigError
from slowpool.linux.scheduling import SHORT_SLICE_SECONDS, request_slice
from slowpool.local_run import Run, run_dir
from slowpool.mistyped import warn_of_mistyped

ROOT = Path(__file__).resolve().parents[2]
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
    for number in (signal.SIGTERM, signal.SIGHUP):  # until something is there that has to be ended in order
        signal.signal(number, signal.default_int_handler)
    try:
        config = Config.load()
        warn_of_mistyped()
        raise_open_files()
        request_slice(SHORT_SLICE_SECONDS)  # inherited by all but the slow instances, which reset it
        match sys.argv[1:]:
            case ["local"]:
                return _run_local(config)
            case ["fast" | "slow" as pool]:
                environ = _environ(config, CONTAINER_RUN_DIR, programs=pool, address="0.0.0.0")  # nosec B104  # in a container
                check_routes(environ)
                os.execve(sys.executable, SUPERVISORD, environ)
            case _:
                raise ConfigError("usage: python -m deploy.supervise fast|slow|local")
    except ConfigError as error:
        print(f"slowpool: {error}", file=sys.stderr)
        return error.exit_status
    except CheckFailed as error:
        print(error, end="", file=sys.stderr)
        return ConfigError.exit_status
    except KeyboardInterrupt:
        return 130


def _environ(config: Config, run_dir: Path, *, programs: str, address: str) -> dict[str, str]:
    """The environment of supervisor and of all that it starts."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        **Config.in_file(),
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
    folder = run_dir(config)
    if len(os.fsencode(folder / "supervisor.sock")) > SOCKET_PATH_MAX:
        raise ConfigError(f"the path {ROOT} is too long for a unix socket; move the project")
    environ = _environ(config, folder, programs="*", address="127.0.0.1")
    environ |= {"ADMIN_ADDRESS": "127.0.0.1", "RESOLVER": ""}
    environ |= choose_nginx(environ, folder)
    check_nginx(environ)
    check_routes(environ)
    Run.note(folder, config)
    signals = Signals()
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
    while probes and supervisor.poll() is None and not signals.stop:
        time.sleep(0.05)
        probes = [url for url in probes if not _answers(url)]
    if not probes:
        say(f"slowpool: is up, at {public_url(config)}")
    while supervisor.poll() is None and not signals.stop:
        time.sleep(0.1)
    if signals.stop:
        try:
            return stop(supervisor, lambda: supervisor_api(folder), config, signals, settled_at)
        finally:
            supervisor.terminate()  # if it still runs, whatever has happened
    print("slowpool: ended because a program could not run; its reason stands above", file=sys.stderr)
    return supervisor.returncode or 1


def public_url(config: Config) -> str:
    """Where a browser on this machine finds the system, by a name that it answers to."""
    names = config.server_names.replace(",", " ").split()
    plain = [name for name in names if "*" not in name and name.strip(".")]
    host = "localhost"
    if names and host not in names:
        host = plain[0].lstrip(".") if plain else names[0].replace("*", "www")
    scheme, port = ("https", config.https_port) if config.tls_certificate else ("http", config.http_port)
    return f"{scheme}://{host}:{port}/"


def _pass_on(supervisor: subprocess.Popen[bytes]) -> None:
    """Print what supervisor and its programs say; supervisor could not live with a terminal that has gone."""
    assert supervisor.stdout
    while data := os.read(supervisor.stdout.fileno(), 65536):
        with contextlib.suppress(OSError):
            os.write(1, data)


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
