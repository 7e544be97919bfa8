"""What a system of the benchmark is while it runs, and how its processes are started and found."""

import contextlib
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
CORES = os.cpu_count() or 1
HTTP_PORT, ADMIN_PORT, FAST_PORT, SLOW_PORT = 9780, 9781, 9401, 9601
BACKEND_PORT = FAST_PORT
COMPOSE_PROJECT = "slowpool-bench"
START_TIMEOUT_SECONDS = 120

UPSTREAM_HEADERS = {
    "X-Request-ID": "0123456789abcdef0123456789abcdef",
    "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
    "X-Real-IP": "127.0.0.1",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "http",
    "X-Slowpool-Public": "1",
}
"""The headers that this project's nginx adds to a request. All systems get them, from nginx or directly: an
instance of this project that has the last one leaves the access line to nginx, as the peers do."""

Processes = Callable[[], list[psutil.Process]]


@dataclass(frozen=True)
class Running:
    """A system that is up."""

    url: str
    """Where its clients go."""
    direct: str
    """One instance of it, past nginx; the same as ``url`` where there is no nginx."""
    start_seconds: float
    """From the command to the first answer."""
    instances: Processes
    """The processes that answer fast requests."""
    workers: Processes
    """The processes that do nothing but slow work; none where the instances do it themselves."""
    all: Processes
    supervision: Processes = list
    """Supervisor and what passes the lines of the log on; in containers that is the engine."""


def environ(**settings: object) -> dict[str, str]:
    """The settings of a benchmark, not those of the caller's shell."""
    ours: dict[str, object] = {
        "HTTP_PORT": HTTP_PORT,
        "ADMIN_PORT": ADMIN_PORT,
        "FAST_PORT": FAST_PORT,
        "SLOW_PORT": SLOW_PORT,
        "FAST_PROCESSES": 2,
        "SLOW_PROCESSES": 2,
        "SLOW_TIMEOUT_SECONDS": 60,
        "DRAIN_TIMEOUT_SECONDS": 65,
        "SLOW_PER_CLIENT": 0,  # all the load comes from one address
        "APP": "demo:make_app",
    }
    return {**os.environ, **{name: str(value) for name, value in {**ours, **settings}.items()}}


@contextlib.contextmanager
def started(command: list[str], environ: dict[str, str]) -> Iterator[psutil.Popen]:
    """A command in a session of its own, and nothing left of it afterwards."""
    with (
        open(os.devnull, "w") as output,
        psutil.Popen(
            command, cwd=ROOT, env=environ, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            family = below(process)
            process.terminate()
            _, left = psutil.wait_procs(family, timeout=5)
            for one in left:  # it computes inline, or drains
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()


@contextlib.contextmanager
def nginx(ports: list[int]) -> Iterator[psutil.Popen]:
    """nginx as its documentation would have it for these backends, with the access log of this project.

    Without backends it answers ``/fast`` itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nginx.conf").write_text(nginx_config(ports))
        with started(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], dict(os.environ)) as process:
            yield process


def nginx_config(ports: list[int]) -> str:
    """The configuration; the access log is ``access.log`` in its folder."""
    servers = "".join(f"server 127.0.0.1:{port}; " for port in ports)
    upstream = f"upstream app {{ {servers} keepalive 64; }}" if ports else ""
    answer = "proxy_pass http://app;" if ports else 'default_type text/plain; return 200 "fast result 1";'
    headers = " ".join(f'proxy_set_header {name} "{value}";' for name, value in UPSTREAM_HEADERS.items())
    # Started by root, its workers would run as a user who cannot write here.
    user = "user root;" if os.getuid() == 0 else ""
    return f"""
        daemon off; {user} pid nginx.pid; error_log nginx.log; worker_processes auto;
        events {{ worker_connections 16384; }}
        http {{
            map $request_id $x_request_id {{ default $request_id; }}
            map $request_id $handed_over_by {{ default ""; }}
            {_log_format()}
            access_log access.log json buffer=4k flush=1s;
            client_body_temp_path body; proxy_temp_path proxy;
            fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            keepalive_requests 1000000;
            {upstream}
            server {{
                listen {HTTP_PORT} backlog=4096;
                location / {{
                    {answer}
                    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 120s;
                    {headers}
                }}
            }}
        }}"""


def _log_format() -> str:
    """The format of this project's access log, and the maps that it needs."""
    text = (ROOT / "nginx" / "http" / "logging.conf").read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("include "))


def first_answer(process: psutil.Popen | None, port: int, path: str = "/fast?id=1") -> float:
    """Wait until the path is answered; the seconds since the start of the process, or since the call."""
    start = process.create_time() if process else time.time()
    while time.time() < start + START_TIMEOUT_SECONDS:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5),
        ):
            return time.time() - start
        time.sleep(0.01)
    raise RuntimeError(f"nothing answered on port {port} within {START_TIMEOUT_SECONDS} s")


def below(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return [psutil.Process(process.pid), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def own_bytes(processes: list[psutil.Process]) -> list[int]:
    """The memory that each has for itself, of those that have not ended."""
    sizes = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_full_info().uss)
    return sizes


def matching(processes: list[psutil.Process], pattern: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if re.search(pattern, " ".join(process.cmdline())):
                found.append(process)
    return found
