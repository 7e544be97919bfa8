"""The systems that are compared: how each is started, and which of its processes is what."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import psutil

from tests.bench.running import (
    BACKEND_PORT,
    CORES,
    FAST_PORT,
    HTTP_PORT,
    ROOT,
    SLOW_PORT,
    Running,
    below,
    environ,
    first_answer,
    matching,
    nginx,
    started,
)

COMPOSE_PROJECT = "slowpool-bench"

SUPERVISION = r"deploy\.supervise|supervisord"
"""In the command lines of supervisor, the watchdog and `./deploy/local`."""


class Kind(Enum):
    """What a system is: this project, another server of several processes, or Tornado processes."""

    OURS = "ours"
    SERVER = "server"
    TORNADO = "tornado"


@dataclass(frozen=True)
class System:
    """``slow`` is the path of its slow route."""

    name: str
    title: str
    slow: str
    start: Callable[[], AbstractContextManager[Running]] = field(repr=False)
    kind: Kind = Kind.TORNADO


@contextlib.contextmanager
def slowpool(**settings: object) -> Iterator[Running]:
    """This project as ``./deploy/local`` runs it, as many slow workers as there are cores."""
    variables = environ(**{"SLOW_PROCESSES": CORES, **settings})
    with started([sys.executable, "deploy/local"], variables) as running:
        start_seconds = first_answer(running, HTTP_PORT)
        for number in range(int(variables["SLOW_PROCESSES"])):
            first_answer(None, SLOW_PORT + number, "/-/readyz")
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{FAST_PORT}",
            start_seconds=start_seconds,
            instances=lambda: matching(below(running), r"-m slowpool serve --pool=fast"),
            workers=lambda: matching(below(running), r"literal_eval"),
            all=lambda: below(running),
            supervision=lambda: matching(below(running), SUPERVISION),
        )


@contextlib.contextmanager
def slowpool_in_compose() -> Iterator[Running]:
    """This project as ``docker compose up`` runs it. The images are built before the clock starts."""
    variables = {**environ(SLOW_PROCESSES=CORES), "COMPOSE_PROJECT_NAME": COMPOSE_PROJECT}

    def docker(*arguments: str) -> list[str]:
        command = ["docker", *arguments]
        return subprocess.check_output(command, cwd=ROOT, env=variables, text=True).split("\n")[:-1]

    def everything() -> list[psutil.Process]:
        found = []
        for container in docker("compose", "ps", "--quiet"):
            for pid in docker("top", container, "-eo", "pid")[1:]:
                with contextlib.suppress(psutil.NoSuchProcess):  # a health check that has ended
                    found.append(psutil.Process(int(pid)))
        return found

    def address(service: str) -> str:
        """A container's own: what is published on this machine goes through a process of the engine."""
        (container,) = docker("compose", "ps", "--quiet", service)
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", networks, container)[0]

    docker("compose", "build", "--quiet")
    try:
        start = time.perf_counter()
        docker("compose", "--progress=quiet", "up", "--detach")
        first_answer(None, HTTP_PORT)
        start_seconds = time.perf_counter() - start
        # The slow ones too: their start takes the CPUs that are measured.
        docker("compose", "--progress=quiet", "up", "--detach", "--no-build", "--wait")
        yield Running(
            url=f"http://{address('nginx')}:8080",
            direct=f"http://{address('fast')}:{FAST_PORT}",
            start_seconds=start_seconds,
            instances=lambda: matching(everything(), r"--pool=fast"),
            workers=lambda: matching(everything(), r"literal_eval"),
            all=everything,
            supervision=lambda: [
                *matching(everything(), SUPERVISION),
                *matching(list(psutil.process_iter()), r"dockerd|containerd"),
            ],
        )
    finally:
        docker("compose", "--progress=quiet", "down", "--timeout=5")


@contextlib.contextmanager
def one_tornado(workers: str = "") -> Iterator[Running]:
    """One Tornado process with every route, as most applications begin; by what its workers are known."""
    command = [sys.executable, "-m", "slowpool", "serve", "--pool=all", f"--port={HTTP_PORT}"]
    with started(command, environ(SLOW_WORKERS=CORES)) as running:
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{HTTP_PORT}",
            start_seconds=first_answer(running, HTTP_PORT),
            instances=lambda: matching(below(running), r"-m slowpool serve --pool=all"),
            workers=lambda: matching(below(running), workers) if workers else [],
            all=lambda: below(running),
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
        instances = [stack.enter_context(started(command, environ())) for command in commands]
        edge = stack.enter_context(nginx(list(ports)))
        first_answer(instances[0], HTTP_PORT)
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{BACKEND_PORT}",
            start_seconds=time.perf_counter() - start,
            instances=lambda: [p for i in instances for p in matching(below(i), "--pool=all")],
            workers=list,
            all=lambda: [p for i in [*instances, edge] for p in below(i)],
        )


Find = Callable[[psutil.Process], list[psutil.Process]]
"""Some of the processes below a server's first."""


@contextlib.contextmanager
def behind_nginx(
    server: list[str], instances: Find = psutil.Process.children, workers: Find = lambda _: []
) -> Iterator[Running]:
    """A server on BACKEND_PORT behind nginx."""
    with started(server, environ()) as running, nginx([BACKEND_PORT]) as edge:
        yield Running(
            url=f"http://127.0.0.1:{HTTP_PORT}",
            direct=f"http://127.0.0.1:{BACKEND_PORT}",
            start_seconds=first_answer(running, HTTP_PORT),
            instances=lambda: instances(running),
            workers=lambda: workers(running),
            all=lambda: [*below(running), *below(edge)],
        )


def fastapi() -> AbstractContextManager[Running]:
    """FastAPI on uvicorn, the slow work in a plain function and so in its thread pool, behind nginx."""
    command = [sys.executable, "-m", "uvicorn", "tests.bench.peers.fastapi_app:app"]
    command += ["--workers=2", f"--port={BACKEND_PORT}", "--log-level=warning"]
    return behind_nginx(command, lambda server: matching(server.children(), "spawn_main"))


def granian() -> AbstractContextManager[Running]:
    """The same application on granian."""
    command = [sys.executable, "-m", "granian", "tests.bench.peers.fastapi_app:app", "--interface=asgi"]
    command += ["--workers=2", "--host=127.0.0.1", f"--port={BACKEND_PORT}", "--log-level=warning"]
    return behind_nginx(command)


def gunicorn_tornado() -> AbstractContextManager[Running]:
    """gunicorn with two Tornado workers, which do the slow work too, behind nginx."""
    command = [sys.executable, "-m", "gunicorn", "tests.bench.peers.tornado_app:app"]
    command += ["--worker-class=tornado", "--workers=2", f"--bind=127.0.0.1:{BACKEND_PORT}", "--timeout=120"]
    return behind_nginx(command)


def gunicorn() -> AbstractContextManager[Running]:
    """gunicorn with two ASGI workers and a dirty worker for each core, behind nginx."""
    command = [sys.executable, "-m", "gunicorn", "tests.bench.peers.gunicorn_app:app"]
    command += ["--worker-class=asgi", "--workers=2", f"--bind=127.0.0.1:{BACKEND_PORT}"]
    command += ["--dirty-app=tests.bench.peers.gunicorn_app:Factorials", f"--dirty-workers={CORES}"]

    def dirty_workers(arbiter: psutil.Process) -> list[psutil.Process]:
        """The children of an arbiter of their own."""
        return [worker for child in arbiter.children() for worker in child.children()]

    def instances(arbiter: psutil.Process) -> list[psutil.Process]:
        return [child for child in arbiter.children() if not child.children()]

    return behind_nginx(command, instances, dirty_workers)


spawning = partial(one_tornado, "spawn_main")
with_workers = partial(one_tornado, "literal_eval")

SYSTEMS = [
    System("slowpool", "**slowpool**, local", "/slow_threaded", slowpool, Kind.OURS),
    System("slowpool-compose", "**slowpool**, compose", "/slow_threaded", slowpool_in_compose, Kind.OURS),
    System("fastapi", "FastAPI on uvicorn, thread pool", "/slow", fastapi, Kind.SERVER),
    System("granian", "FastAPI on granian, thread pool", "/slow", granian, Kind.SERVER),
    System("gunicorn", "FastAPI on gunicorn, dirty workers", "/slow", gunicorn, Kind.SERVER),
    System("gunicorn-tornado", "2 Tornado workers of gunicorn", "/slow", gunicorn_tornado, Kind.SERVER),
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


OURS = ("slowpool", "slowpool-compose", "tornado-worker")
"""The systems that have this project's workers."""


def named(name: str) -> System:
    """The system of this name."""
    return next(system for system in SYSTEMS if system.name == name)


def has_docker() -> bool:
    """Whether there is an engine for ``slowpool-compose``."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


@contextlib.contextmanager
def fast_instance(port: int, variant: str = "whole", **settings: object) -> Iterator[psutil.Process]:
    """One fast instance, as tests.bench.variants makes it; the order of its sets is that of all others."""
    serve = ["serve", "--pool=fast", f"--port={port}"]
    command = [sys.executable, "-m", "tests.bench.variants", variant, *serve]
    with started(command, environ(PYTHONHASHSEED=0, **settings)) as process:
        first_answer(None, port)
        yield process


@contextlib.contextmanager
def listeners_behind_nginx(count: int) -> Iterator[None]:
    """One Tornado instance behind this project's nginx, which knows it as ``count`` upstream servers.

    The ports beyond the first are forwarded to it by the kernel's own means: the instance listens on all.
    """
    command = [sys.executable, "-m", "tests.bench.peers.many_ports", str(FAST_PORT), str(count)]
    settings = environ(FAST_PROCESSES=count, FAST_HOST="127.0.0.1", SLOW_HOST="127.0.0.1")
    settings |= {"ADMIN_ADDRESS": "127.0.0.1", "RESOLVER": "", "LOG_FORMAT": "json"}
    with started(command, settings) as running, tempfile.TemporaryDirectory() as folder:
        subprocess.run([ROOT / "nginx" / "render", folder], env=settings, check=True)
        with started(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], settings):
            first_answer(running, HTTP_PORT)
            yield


@contextlib.contextmanager
def nginx_alone() -> Iterator[str]:
    """An nginx that answers ``/fast`` itself: what the load generators can do at most."""
    with nginx([]):
        first_answer(None, HTTP_PORT)
        yield f"http://127.0.0.1:{HTTP_PORT}"
