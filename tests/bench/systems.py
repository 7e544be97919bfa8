"""The systems that are compared: how each is started, and which of its processes is what."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
CORES = os.cpu_count() or 1
HTTP_PORT, ADMIN_PORT, FAST_PORT, SLOW_PORT = 9780, 9781, 9401, 9601
BACKEND_PORT = FAST_PORT
COMPOSE_PROJECT = "slowpool-bench"
START_TIMEOUT_SECONDS = 120

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


@dataclass(frozen=True)
class System:
    """``slow`` is the path of its slow route."""

    name: str
    title: str
    slow: str
    start: Callable[[], AbstractContextManager[Running]] = field(repr=False)


@contextlib.contextmanager
def slowpool(**settings: object) -> Iterator[Running]:
    """This project as ``./deploy/local`` runs it, as many slow workers as there are cores."""
    environ = _environ(**{"SLOW_PROCESSES": CORES, **settings})
    with _started([sys.executable, "deploy/local"], environ) as running:
        start_seconds = _first_answer(running, HTTP_PORT)
        for number in range(CORES):
            _first_answer(None, SLOW_PORT + number, "/-/readyz")
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{FAST_PORT}",
            start_seconds=start_seconds,
            instances=lambda: _matching(_below(running), r"-m slowpool serve --pool=fast"),
            workers=lambda: _matching(_below(running), r"literal_eval"),
            all=lambda: _below(running),
        )


@contextlib.contextmanager
def slowpool_in_compose() -> Iterator[Running]:
    """This project as ``docker compose up`` runs it. The images are built before the clock starts."""
    environ = {**_environ(SLOW_PROCESSES=CORES), "COMPOSE_PROJECT_NAME": COMPOSE_PROJECT}

    def docker(*arguments: str) -> list[str]:
        command = ["docker", *arguments]
        return subprocess.check_output(command, cwd=ROOT, env=environ, text=True).split("\n")[:-1]

    def everything() -> list[psutil.Process]:
        containers = docker("compose", "ps", "--quiet")
        return [psutil.Process(int(pid)) for c in containers for pid in docker("top", c, "-eo", "pid")[1:]]

    docker("compose", "build", "--quiet")
    try:
        start = time.perf_counter()
        docker("compose", "--progress=quiet", "up", "--detach")
        _first_answer(None, HTTP_PORT)
        start_seconds = time.perf_counter() - start
        # nginx's own address: what is published on this machine's goes through a process of the engine.
        (nginx,) = docker("compose", "ps", "--quiet", "nginx")
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        (address,) = docker("inspect", "--format", networks, nginx)
        yield Running(
            url=f"http://{address}:8080",
            direct=f"http://{address}:8080",
            start_seconds=start_seconds,
            instances=lambda: _matching(everything(), r"--pool=fast"),
            workers=lambda: _matching(everything(), r"literal_eval"),
            all=everything,
        )
    finally:
        docker("compose", "--progress=quiet", "down", "--timeout=5")


@contextlib.contextmanager
def one_tornado(workers: str = "") -> Iterator[Running]:
    """One Tornado process with every route, as most applications begin; by what its workers are known."""
    command = [sys.executable, "-m", "slowpool", "serve", "--pool=all", f"--port={HTTP_PORT}"]
    with _started(command, _environ(SLOW_WORKERS=CORES)) as running:
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{HTTP_PORT}",
            start_seconds=_first_answer(running, HTTP_PORT),
            instances=lambda: _matching(_below(running), r"-m slowpool serve --pool=all"),
            workers=lambda: _matching(_below(running), workers) if workers else [],
            all=lambda: _below(running),
        )


@contextlib.contextmanager
def tornado_round_robin() -> Iterator[Running]:
    """Four Tornado processes behind nginx, every one of them for everything."""
    ports = range(BACKEND_PORT, BACKEND_PORT + 4)
    with contextlib.ExitStack() as stack:
        commands = [
            [sys.executable, "-m", "slowpool", "serve", "--pool=all", f"--port={port}"] for port in ports
        ]
        start = time.perf_counter()
        instances = [stack.enter_context(_started(command, _environ())) for command in commands]
        nginx = stack.enter_context(_nginx(list(ports)))
        _first_answer(instances[0], HTTP_PORT)
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{BACKEND_PORT}",
            start_seconds=time.perf_counter() - start,
            instances=lambda: [p for i in instances for p in _matching(_below(i), "--pool=all")],
            workers=list,
            all=lambda: [p for i in [*instances, nginx] for p in _below(i)],
        )


@contextlib.contextmanager
def fastapi() -> Iterator[Running]:
    """FastAPI on uvicorn, the slow work in a plain function and so in its thread pool, behind nginx."""
    command = [sys.executable, "-m", "uvicorn", "tests.bench.peers.fastapi_app:app"]
    command += ["--workers=2", f"--port={BACKEND_PORT}", "--log-level=warning"]
    with _started(command, _environ()) as running, _nginx([BACKEND_PORT]) as nginx:
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{BACKEND_PORT}",
            start_seconds=_first_answer(running, HTTP_PORT),
            instances=lambda: _matching(_below(running), r"spawn_main"),
            workers=list,
            all=lambda: [*_below(running), *_below(nginx)],
        )


@contextlib.contextmanager
def gunicorn() -> Iterator[Running]:
    """gunicorn with two ASGI workers and a dirty worker for each core, behind nginx."""
    command = [sys.executable, "-m", "gunicorn", "tests.bench.peers.gunicorn_app:app"]
    command += ["--worker-class=asgi", "--workers=2", f"--bind=127.0.0.1:{BACKEND_PORT}"]
    command += ["--dirty-app=tests.bench.peers.gunicorn_app:Factorials", f"--dirty-workers={CORES}"]
    with _started(command, _environ()) as running, _nginx([BACKEND_PORT]) as nginx:

        def children(with_children: bool) -> list[psutil.Process]:
            master = psutil.Process(running.pid)
            return [child for child in master.children() if bool(child.children()) == with_children]

        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{BACKEND_PORT}",
            start_seconds=_first_answer(running, HTTP_PORT),
            instances=lambda: children(with_children=False),
            # The dirty workers are the children of their own arbiter.
            workers=lambda: [w for arbiter in children(with_children=True) for w in arbiter.children()],
            all=lambda: [*_below(running), *_below(nginx)],
        )


spawning = partial(one_tornado, "spawn_main")
with_workers = partial(one_tornado, "literal_eval")

SYSTEMS = [
    System("slowpool", "**slowpool**, local", "/slow_threaded", slowpool),
    System("slowpool-compose", "**slowpool**, compose", "/slow_threaded", slowpool_in_compose),
    System("gunicorn", "gunicorn, dirty workers", "/slow", gunicorn),
    System("fastapi", "FastAPI on uvicorn, thread pool", "/slow", fastapi),
    System("round-robin", "4 Tornado processes, round robin", "/slow", tornado_round_robin),
    System("tornado", "Tornado, inline", "/slow", one_tornado),
    System("tornado-thread", "Tornado, thread", "/slow/thread", one_tornado),
    System("tornado-process", "Tornado, process per request", "/slow/process", spawning),
    System(
        "tornado-executor",
        "Tornado, ProcessPoolExecutor",
        "/slow/executor",
        spawning,
    ),
    System("tornado-pool", "Tornado, multiprocessing.Pool", "/slow/pool", spawning),
    System(
        "tornado-worker",
        "Tornado, this project's workers",
        "/slow_threaded",
        with_workers,
    ),
]


def has_docker() -> bool:
    """Whether there is an engine for ``slowpool-compose``."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


@contextlib.contextmanager
def fast_instance(variant: str) -> Iterator[str]:
    """One fast instance, as tests.bench.variants makes it."""
    serve = ["serve", "--pool=fast", f"--port={FAST_PORT}"]
    command = [sys.executable, "-m", "tests.bench.variants", variant, *serve]
    with _started(command, _environ()):
        _first_answer(None, FAST_PORT)
        yield f"http://127.0.0.1:{FAST_PORT}"


@contextlib.contextmanager
def listeners_behind_nginx(count: int) -> Iterator[None]:
    """One Tornado instance behind this project's nginx, which knows it as ``count`` upstream servers.

    The ports beyond the first are forwarded to it by the kernel's own means: the instance listens on all.
    """
    command = [sys.executable, "-m", "tests.bench.peers.many_ports", str(FAST_PORT), str(count)]
    settings = _environ(FAST_PROCESSES=count, FAST_HOST="127.0.0.1", SLOW_HOST="127.0.0.1")
    settings |= {"ADMIN_ADDRESS": "127.0.0.1", "RESOLVER": "", "LOG_FORMAT": "json"}
    with _started(command, settings) as running, tempfile.TemporaryDirectory() as folder:
        subprocess.run([ROOT / "nginx" / "render", folder], env=settings, check=True)
        with _started(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], settings):
            _first_answer(running, HTTP_PORT)
            yield


@contextlib.contextmanager
def nginx_alone() -> Iterator[str]:
    """An nginx that answers ``/fast`` itself: what the load generators can do at most."""
    with _nginx([]):
        _first_answer(None, HTTP_PORT)
        yield f"http://127.0.0.1:{HTTP_PORT}"


def _environ(**settings: object) -> dict[str, str]:
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
def _started(command: list[str], environ: dict[str, str]) -> Iterator[psutil.Popen]:
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
            family = _below(process)
            process.terminate()
            _, left = psutil.wait_procs(family, timeout=5)
            for one in left:  # it computes inline, or drains
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()


@contextlib.contextmanager
def _nginx(ports: list[int]) -> Iterator[psutil.Popen]:
    """nginx as its documentation would have it for these backends."""
    servers = "".join(f"server 127.0.0.1:{port}; " for port in ports)
    upstream = f"upstream app {{ {servers} keepalive 64; }}" if ports else ""
    answer = "proxy_pass http://app;" if ports else 'default_type text/plain; return 200 "fast result 1";'
    with tempfile.TemporaryDirectory() as folder:
        # Started by root, its workers would run as a user who cannot write here.
        user = "user root;" if os.getuid() == 0 else ""
        Path(folder, "nginx.conf").write_text(f"""
            daemon off; {user} pid nginx.pid; error_log nginx.log; worker_processes auto;
            events {{ worker_connections 16384; }}
            http {{
                access_log access.log;
                client_body_temp_path body; proxy_temp_path proxy;
                fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                keepalive_requests 1000000;
                {upstream}
                server {{
                    listen {HTTP_PORT} backlog=4096;
                    location / {{
                        {answer}
                        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 120s;
                    }}
                }}
            }}""")
        with _started(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], dict(os.environ)) as process:
            yield process


def _first_answer(process: psutil.Popen | None, port: int, path: str = "/fast?id=1") -> float:
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


def _below(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return [psutil.Process(process.pid), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _matching(processes: list[psutil.Process], pattern: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if re.search(pattern, " ".join(process.cmdline())):
                found.append(process)
    return found
