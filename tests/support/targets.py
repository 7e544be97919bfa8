"""The targets of the fault schedule, and the faults of each: a local run and containers."""

import http.client
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tests.support.basics import ROOT, Entered, wait_until
from tests.support.compose import Compose, address, docker
from tests.support.load import Client, Load
from tests.support.process import TEMPLATE, WORKER, below
from tests.support.stack import BROKEN, POOLS, REPLICAS, Stack
from tests.support.system import System, is_ready

RECORDING = "tests.apps.recording:make_app"
FROZEN_SECONDS = 3.0
"""How long an instance is stopped by SIGSTOP; less than what the watchdog takes for hung."""

HELD_SECONDS = 37.0
"""A node that is lost holds requests for as long as nginx's proxy_read_timeout, here 35 s at most."""

UPSTREAM_KEPT_SECONDS = 3.0
"""nginx's keepalive_timeout: for as long a lost node may still be sent a request."""

LONGEST_CLIENT_SECONDS = 2.0
"""The longest that a client of the schedule asks for, and some time."""

NAMES = {"worker": WORKER, "template": TEMPLATE}

FIRST_PORTS = {"fast": 8001, "slow": 8101}

Act = Callable[[Any, Load], None]
Events = dict[str, tuple[Act, Act]]
"""Name -> what is done before the event, and the event."""


@dataclass(frozen=True)
class Kill:
    """A process, a replica or a node was killed between two instants of the monotonic clock."""

    what: str
    started_at: float
    ended_at: float


class Target(Entered):
    """A running system; entered when it is up."""

    events: ClassVar[Events]
    requests_per_second: ClassVar[float]
    """Of the fast pool: what two cores can do, with enough left for what happens beside it."""
    port: int
    addresses: Sequence[str] = ("127.0.0.1",)
    folder: str
    """Where it records what has run, as it calls the folder."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.kills: list[Kill] = []

    def signal(self, pool: str, what: str, number: signal.Signals) -> Callable[[signal.Signals], None]:
        """Send a signal to an instance, worker or template; returns what sends the same one another."""
        raise NotImplementedError

    def wait_until_whole(self) -> None:
        """Wait until all that was there at the start is there and ready."""
        raise NotImplementedError

    def nothing(self, load: Load) -> None:
        """Needs no preparation."""

    def kill(self, pool: str, what: str) -> None:
        """``kill -9``."""
        started_at = time.monotonic()
        self.signal(pool, what, signal.SIGKILL)
        self.kills.append(Kill(what, started_at, time.monotonic()))

    def kill_instance(self, load: Load) -> None:
        for pool in ("fast", "slow"):
            self.kill(pool, "instance")
            time.sleep(0.5)
            self.wait_until_whole()

    def kill_worker(self, load: Load) -> None:
        self.kill("slow", "worker")

    def kill_template(self, load: Load) -> None:
        """Its workers go on, so it costs no request: it is none of the kills."""
        self.signal("slow", "template", signal.SIGKILL)

    def freeze_instance(self, load: Load) -> None:
        again = self.signal("fast", "instance", signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        again(signal.SIGCONT)

    def freeze_slow_instance(self, load: Load) -> None:
        """For longer than the lease of its accepted jobs."""
        again = self.signal("slow", "instance", signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        again(signal.SIGCONT)

    def hang_instance(self, load: Load) -> None:
        started_at = time.monotonic()
        self.signal("fast", "instance", signal.SIGSTOP)
        time.sleep(1)
        self.wait_until_whole()  # the watchdog kills it
        self.kills.append(Kill("instance", started_at, time.monotonic()))

    def fill_slow_pool(self, load: Load) -> None:
        load.burst(Client("GET", "/slow/record?milliseconds=200", 1, keeps=False, fast=False), 100)


class Local(Target):
    """``./deploy/local``; an instance that is stopped and started is what scaling is here."""

    requests_per_second = 900

    def __init__(self, folder: Path, chance: random.Random) -> None:
        super().__init__(chance)
        self.folder = str(folder)
        self.system = System(APP=RECORDING, SLOW_PER_CLIENT=0, JOB_LEASE_SECONDS=1)
        self.port = self.system.port
        self._down: list[str] = []

    def enter(self, parts: ExitStack) -> None:
        parts.enter_context(self.system)

    def signal(self, pool: str, what: str, number: signal.Signals) -> Callable[[signal.Signals], None]:
        process = psutil.Process(self.system.pid_of(pool, self.chance.choice(self.system.instances(pool))))
        if what != "instance":
            process = self.chance.choice(below(process.pid, NAMES[what]))
        process.send_signal(number)
        return process.send_signal

    def wait_until_whole(self) -> None:
        for pool in ("fast", "slow"):
            for port in self.system.instances(pool):
                if f"{pool}:{pool}-{port}" not in self._down:
                    wait_until(partial(is_ready, port), 60, f"{pool}:{port} to be ready")

    def stop_some(self, load: Load) -> None:
        if not self._down:
            for pool in ("fast", "slow"):
                self._down.append(f"{pool}:{pool}-{self.chance.choice(self.system.instances(pool))}")
                self.system.supervisor("stopProcess", self._down[-1])

    def start_all(self, load: Load) -> None:
        while self._down:
            self.system.supervisor("startProcess", self._down.pop())
        self.wait_until_whole()

    def roll(self, load: Load) -> None:
        run(ROOT / "deploy" / "rolling-restart", env={**os.environ, "HTTP_PORT": str(self.port)})

    def reload(self, load: Load) -> None:
        for _ in range(3):
            os.kill(int(self.system.program("nginx")["pid"]), signal.SIGHUP)
            time.sleep(1)

    def kill_nginx(self, load: Load) -> None:
        """supervisor starts another one, and until then nobody is answered."""
        started_at = time.monotonic()
        pid = int(self.system.program("nginx")["pid"])
        os.kill(pid, signal.SIGKILL)

        def is_another() -> bool:
            try:
                is_new = self.system.program("nginx")["pid"] != pid
                return is_new and self.system.get("/record?id=7").status == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(is_another, 30, "another nginx to answer")
        self.kills.append(Kill("nginx", started_at, time.monotonic()))

    events: ClassVar[Events] = {
        "scale down": (start_all, stop_some),
        "scale up": (stop_some, start_all),
        "roll": (start_all, roll),
        "reload nginx": (Target.nothing, reload),
        "kill -9 nginx": (start_all, kill_nginx),
        "kill -9 instance": (start_all, Target.kill_instance),
        "kill -9 worker": (start_all, Target.kill_worker),
        "kill -9 template": (start_all, Target.kill_template),
        "SIGSTOP, SIGCONT": (start_all, Target.freeze_instance),
        "SIGSTOP, SIGCONT slow": (start_all, Target.freeze_slow_instance),
        "SIGSTOP": (start_all, Target.hang_instance),
        "full slow pool": (start_all, Target.fill_slow_pool),
    }


class Docker(Target):
    """``docker compose up`` with two replicas of each pool."""

    requests_per_second = 500

    def __init__(self, folder: Path, chance: random.Random) -> None:
        super().__init__(chance)
        self.folder = "/record"
        self.compose = Compose(
            "tests/deploy/faults.yml", APP=RECORDING, SLOW_PER_CLIENT=0, JOB_LEASE_SECONDS=1
        )
        self.compose.env["RECORD_FOLDER"] = str(folder)
        self.port = self.compose.port

    def enter(self, parts: ExitStack) -> None:
        parts.enter_context(self.compose)
        self.scale(2, "--build")

    def scale(self, count: int, *options: str) -> None:
        self.compose("up", "--detach", *options, f"--scale=fast={count}", f"--scale=slow={count}")

    def signal(self, pool: str, what: str, number: signal.Signals) -> Callable[[signal.Signals], None]:
        container = self.one(pool)
        mark = NAMES.get(what, f"--port={FIRST_PORTS[pool]}")
        found = docker("exec", container, "python", "-S", "-c", SEND, mark, str(int(number)))
        pid = found.split()[-1]

        def again(other: signal.Signals) -> None:
            docker("exec", container, "sh", "-c", f"kill -{int(other)} {pid}")

        return again

    def one(self, pool: str) -> str:
        return self.chance.choice(self.compose("ps", "--quiet", pool).stdout.split())

    def wait_until_whole(self) -> None:
        for pool, port in FIRST_PORTS.items():
            for container in self.compose.containers(pool):
                for one in (port, port + 1):
                    ready = partial(is_ready, one, address(container))
                    wait_until(ready, 100, f"{container['Name']} {one} to be ready")

    def one_more(self, load: Load) -> None:
        self.scale(3)
        self.wait_until_whole()

    def two(self, load: Load) -> None:
        self.scale(2)
        self.wait_until_whole()

    def roll(self, load: Load) -> None:
        run(ROOT / "deploy" / "rolling-restart", "--compose", env=self.compose.env)

    def reload(self, load: Load) -> None:
        for _ in range(3):
            command = "nginx -p /tmp/nginx -c /tmp/nginx/nginx.conf -s reload"
            self.compose("exec", "-T", "nginx", "sh", "-c", command)
            time.sleep(1)

    def docker_kill(self, load: Load) -> None:
        containers = [self.one(pool) for pool in ("fast", "slow")]
        started_at = time.monotonic()
        docker("kill", *containers)
        self.kills.append(Kill("replica", started_at, time.monotonic()))
        time.sleep(3)
        docker("start", *containers)
        self.wait_until_whole()

    def docker_restart(self, load: Load) -> None:
        for pool in ("fast", "slow"):
            docker("restart", self.one(pool))
            self.wait_until_whole()

    events: ClassVar[Events] = {
        "scale up": (two, one_more),
        "scale down": (one_more, two),
        "roll": (two, roll),
        "reload nginx": (Target.nothing, reload),
        "kill -9 instance": (Target.nothing, Target.kill_instance),
        "kill -9 worker": (Target.nothing, Target.kill_worker),
        "kill -9 template": (Target.nothing, Target.kill_template),
        "SIGSTOP, SIGCONT": (Target.nothing, Target.freeze_instance),
        "SIGSTOP, SIGCONT slow": (Target.nothing, Target.freeze_slow_instance),
        "SIGSTOP": (Target.nothing, Target.hang_instance),
        "docker kill": (two, docker_kill),
        "docker restart": (two, docker_restart),
        "full slow pool": (Target.nothing, Target.fill_slow_pool),
    }


class OnSwarm(Target):
    """``deploy/swarm`` on two nodes; half of the clients ask the nginx of either, while it is in service."""

    requests_per_second = 200

    def __init__(self, folder: Path, chance: random.Random) -> None:
        super().__init__(chance)
        self.folder = "/record"
        # With the defaults a lost node would hold requests for longer than the clients wait.
        timeouts = {"FAST_TIMEOUT_SECONDS": 30, "SLOW_TIMEOUT_SECONDS": 30}
        self.stack = Stack(folder, APP=RECORDING, SLOW_PER_CLIENT=0, **timeouts)
        self.port = self.stack.port
        self.addresses = [node.address for node in self.stack.nodes]

    def enter(self, parts: ExitStack) -> None:
        parts.enter_context(self.stack)

    def wait_until_whole(self) -> None:
        self.stack.wait_until_whole()

    def two(self, load: Load) -> None:
        self.stack.scale(REPLICAS)
        self.stack.spread()
        self.stack.wait_until_served()
        load.addresses = self.addresses

    def three(self, load: Load) -> None:
        self.stack.scale(REPLICAS + 1)

    def first_release(self, load: Load) -> None:
        self.two(load)
        if self.stack.releases() != {"1"}:
            self.stack.update("1")

    def update(self, load: Load) -> None:
        self.stack.update("2")
        assert self.stack.releases() == {"2"}

    def second_release(self, load: Load) -> None:
        """An update is the last change of both: to scale is one too, and a rollback would take that back."""
        self.first_release(load)
        self.update(load)

    def roll_back(self, load: Load) -> None:
        self.stack.roll_back()
        assert self.stack.releases() == {"1"}

    def broken_update(self, load: Load) -> None:
        self.stack.update(BROKEN, "rollback_completed")
        assert self.stack.releases() == {"1"}

    def one_edge(self, load: Load) -> None:
        """What is in front leaves the second node out, and what its nginx had to do is done."""
        self.two(load)
        load.addresses = self.addresses[:1]
        time.sleep(LONGEST_CLIENT_SECONDS)

    def drain(self, load: Load) -> None:
        worker = self.stack.swarm.worker
        with self.stack.swarm.drained(worker):
            wait_until(lambda: not any(map(self.containers, POOLS)), 120, "the node to be empty")
            self.wait_until_whole()
            assert self.stack.are_all_on(self.stack.swarm.manager)

    def containers(self, pool: str) -> list[str]:
        return self.stack.swarm.worker.containers(f"{self.stack.name}_{pool}")

    def kill_store(self, load: Load) -> None:
        """Swarm starts another one, and until then no request is accepted."""
        manager, service = self.stack.swarm.manager, f"{self.stack.name}_valkey"
        (container,) = manager.containers(service)
        manager.docker("kill", container)

        def answers() -> bool:
            ping = ("valkey-cli", "-e", "ping")
            return any(
                "PONG" in manager.docker("exec", other, *ping, check=False)
                for other in manager.containers(service)
                if other != container
            )

        wait_until(answers, 60, "another store to answer")

    def vanish(self, load: Load) -> None:
        swarm = self.stack.swarm
        started_at = time.monotonic()
        self.kills.append(Kill("node", started_at, started_at + UPSTREAM_KEPT_SECONDS))
        with swarm.cut():
            wait_until(lambda: swarm.state(swarm.worker) == "down", 60, "the node to be down")
            self.wait_until_whole()
            assert self.stack.are_all_on(swarm.manager)
            print(f"faults: all is replaced after {time.monotonic() - started_at:.1f} s", flush=True)
            time.sleep(max(0, started_at + HELD_SECONDS - time.monotonic()))
        wait_until(lambda: swarm.state(swarm.worker) == "ready", 60, "the node to be back")

    events: ClassVar[Events] = {
        "scale up": (two, three),
        "scale down": (three, two),
        "update": (first_release, update),
        "rollback": (second_release, roll_back),
        "broken update": (first_release, broken_update),
        "kill -9 store": (two, kill_store),
        "drain a node": (one_edge, drain),
        "lose a node": (one_edge, vanish),
    }


ENVIRONMENTS: dict[str, type[Local] | type[Docker] | type[OnSwarm]] = {
    "local": Local,
    "docker": Docker,
    "swarm": OnSwarm,
}

# Inside a container, which has neither ps nor pgrep: sends a signal to the first process that has the mark in
# its command or name.
SEND = """
import os, sys
for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    try:
        command = open(f"/proc/{pid}/cmdline", "rb").read() + open(f"/proc/{pid}/comm", "rb").read()
    except OSError:
        continue
    if sys.argv[1].encode() in command and int(pid) != os.getpid():
        os.kill(int(pid), int(sys.argv[2]))
        print(pid)
        break
"""


def run(*command: str | Path, env: dict[str, str]) -> None:
    """Run a program that must succeed."""
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
