"""``python -m deploy.supervise fast|slow|local``: check the settings and run supervisor.

``fast`` and ``slow`` are the command of a container of that pool: this process becomes supervisor. ``local``
is the whole system on this machine, nginx included: this process stays, prints when the system is up, and
stops it in order at the first signal and at once at the second.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from deploy.supervise.checks import CheckFailed, check_app, check_nginx
from deploy.supervise.nginx_choice import choose_nginx
from deploy.supervise.output import Output
from deploy.supervise.probe import is_ok
from deploy.supervise.rpc import CONTAINER_RUN_DIR, replica_name, supervisor_api
from deploy.supervise.stop import Signals, say, stop
from slowpool.config import Config, Instance, Pool
from slowpool.environment import export_file, settings
from slowpool.errors import ConfigError
from slowpool.linux.scheduling import SHORT_SLICE_SECONDS, request_slice
from slowpool.local_run import Run, run_dir
from slowpool.mistyped import warn_of_mistyped
from slowpool.observe.heartbeat import forget_beats

ROOT = Path(__file__).resolve().parents[2]
SUPERVISORD = [sys.executable, "-m", "deploy.supervise.supervisord", "-c", "deploy/supervisord.conf"]

OPEN_FILES = 65536
"""The soft limit of open files, if the hard limit allows it. Each connection is one, and the usual soft limit
of 1024 dates from select(2)."""

NGINX_ENVIRON = {"ADMIN_ADDRESS": "127.0.0.1", "RESOLVER": "", "ACCESS_LOG": "access_log"}
"""As in deploy/programs/nginx.conf."""

SOCKET_PATH_MAX = 90
"""Bytes in the path of a Unix socket (108 on Linux), minus the suffix that supervisor appends."""


def main() -> int:
    """Run the programs that the command line names; return the exit status."""
    os.chdir(ROOT)
    for number in (signal.SIGTERM, signal.SIGHUP):  # until there is something to stop in order
        signal.signal(number, signal.default_int_handler)
    try:
        config = Config.load()
        warn_of_mistyped()
        export_file()
        raise_open_files()
        request_slice(SHORT_SLICE_SECONDS)  # inherited by all programs; slow instances reset it
        match sys.argv[1:]:
            case ["local"]:
                return _run_local(config)
            case ["fast" | "slow" as pool]:
                environ = _environ(config, CONTAINER_RUN_DIR, programs=pool, address="0.0.0.0")  # nosec B104  # in a container
                check_app(config.app, environ)
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


def raise_open_files() -> None:
    """Raise the soft limit of open files for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    with contextlib.suppress(ValueError):  # macOS has a lower limit than the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _environ(config: Config, run_dir: Path, *, programs: str, address: str) -> dict[str, str]:
    """Make the run directory and return the environment of supervisor and its programs.

    A setting has the text that the user gave it, and one that is not set is absent: an application may have
    a variable of the same name, such as ``DEBUG``.
    """
    placed = ("FAST_PORT", "FAST_PROCESSES", "SLOW_PORT", "SLOW_PROCESSES")  # read by supervisor's files
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        **os.environ,
        **settings(),
        **{name: value for name, value in config.environ().items() if name in placed},
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "SLOWPOOL_RUN_DIR": str(run_dir),
        "SLOWPOOL_PROGRAMS": programs,
        "SLOWPOOL_ADDRESS": address,
        "SLOWPOOL_STOP_WAIT_SECONDS": str(config.stop_wait_seconds),
        "SLOWPOOL_REPLICA": "" if programs == "*" else replica_name(),
    }


def _run_local(config: Config) -> int:
    instances = [*config.instances(Pool.FAST), *config.instances(Pool.SLOW)]
    _check_ports(config, instances)
    folder = run_dir(config)
    if len(os.fsencode(folder / "supervisor.sock")) > SOCKET_PATH_MAX:
        raise ConfigError(f"the path {ROOT} is too long for a Unix socket; move the project to a shorter one")
    environ = _environ(config, folder, programs="*", address="127.0.0.1")
    environ["SLOWPOOL_STATE_DIR"] = str(folder)
    environ |= choose_nginx({**environ, **NGINX_ENVIRON}, folder)
    with Output(config, folder / "nginx" / NGINX_ENVIRON["ACCESS_LOG"]):
        check_nginx({**environ, **NGINX_ENVIRON})
        check_app(config.app, environ)
        Run.note(folder, config)
        forget_beats(folder)
        signals = Signals()
        status = _run_until_stopped(config, instances, environ, signals)
    if not signals.stop:
        print("slowpool: stopped because a program could not run; the lines above say why", file=sys.stderr)
        return status or 1
    return status


def _run_until_stopped(
    config: Config, instances: list[Instance], environ: dict[str, str], signals: Signals
) -> int:
    """Run supervisor until a signal comes or it ends; return its exit status."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: stop() sends it to instances that still start
    # It would not survive the loss of a terminal: both are the pipe of Output.
    supervisor = subprocess.Popen(SUPERVISORD, env=environ, start_new_session=True, stderr=1)

    probes = [(instance.port, "/-/readyz") for instance in instances]
    probes.append((config.admin_port, "/livez"))
    while probes and supervisor.poll() is None and not signals.stop:
        time.sleep(0.05)
        probes = [probe for probe in probes if not is_ok(*probe)]
    if not probes:
        say(f"slowpool: is up, at {_public_url(config)}")
    while supervisor.poll() is None and not signals.stop:
        time.sleep(0.1)
    if signals.stop:
        try:
            return stop(supervisor, lambda: supervisor_api(run_dir(config)), config, signals)
        finally:
            supervisor.terminate()  # if an exception has left it running
    return supervisor.returncode or 0


def _check_ports(config: Config, instances: list[Instance]) -> None:
    """Raise ConfigError when a port is in use, or is set twice."""
    everywhere = "0.0.0.0"  # nosec B104  # only to see whether a port is free
    wanted = [("HTTP_PORT", everywhere, config.http_port), ("ADMIN_PORT", "127.0.0.1", config.admin_port)]
    if config.tls_certificate:
        wanted.append(("HTTPS_PORT", everywhere, config.https_port))
    wanted += [(f"{i.pool.upper()}_PORT", i.address, i.port) for i in instances]
    with contextlib.ExitStack() as held:
        for name, address, port in wanted:
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port))
                listener.listen()
            except OSError as error:
                raise ConfigError(
                    f"port {port} ({name}) is not available: {error.strerror}; choose another, such as "
                    f"{name}={port + 1000} ./deploy/local"
                ) from error


def _public_url(config: Config) -> str:
    """The URL for a browser on this machine, with a name that the server accepts."""
    names = config.server_names.replace(",", " ").split()
    plain = [name for name in names if "*" not in name and name.strip(".")]
    host = "localhost"
    if names and host not in names:
        host = plain[0].lstrip(".") if plain else names[0].replace("*", "www")
    scheme, port = ("https", config.https_port) if config.tls_certificate else ("http", config.http_port)
    return f"{scheme}://{host}:{port}/"
