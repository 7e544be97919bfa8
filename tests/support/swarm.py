"""A swarm of two engines on this machine, each in a network namespace of its own.

The engine of all other tests is no part of it: the containers of an engine that joins or leaves a swarm do
not find each other meanwhile.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.basics import Entered, wait_until
from tests.support.engine import ENGINE
from tests.support.skipped import WITHOUT_ENGINE

NETWORK = f"198.18.{secrets.randbelow(256)}"
"""Of all links, a network for tests (RFC 2544); another one in each run."""

LINK = "between"
"""The name that the link between the nodes has for both of them."""


def lacking() -> str:
    """What this machine lacks for a swarm of two engines; empty where it has everything."""
    if not ENGINE:
        return WITHOUT_ENGINE
    if os.geteuid() != 0:
        return "engines of its own need root"
    missing = [name for name in ("dockerd", "ip", "nsenter") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"there is no {missing[0]} here"
    name = f"sp{secrets.token_hex(4)}"
    for kind in (["vxlan", "id", "77", "dstport", "0"], ["veth"]):
        if _ip("link", "add", name, "type", *kind, check=False).returncode:
            return f"this kernel has no {kind[0]}"
        _ip("link", "del", name)
    return ""


class Node(Entered):
    """An engine, from when it is entered; ``number`` is 0 or 1.

    This machine reaches it at ``address``, the other node at ``inner``.
    """

    def __init__(self, number: int) -> None:
        self.name = f"sp{secrets.token_hex(4)}"
        self.address, self._gateway = (f"{NETWORK}.{4 * number + last}" for last in (2, 1))
        self.inner = f"{NETWORK}.{9 + number}"
        self._folder = Path()
        self.env = {**os.environ}

    def enter(self, parts: ExitStack) -> None:
        """Start the engine."""
        # Not below pytest's folder: the paths of sockets end at 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="slowpool-node-", dir="/var/tmp"))
        parts.callback(self._remove_folder)
        _ip("netns", "add", self.name)
        parts.callback(_ip, "netns", "del", self.name, check=False)
        _ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        parts.callback(_ip, "link", "del", self.name, check=False)
        _ip("address", "add", f"{self._gateway}/30", "dev", self.name)
        _ip("link", "set", self.name, "up")
        _ip("-netns", self.name, "address", "add", f"{self.address}/30", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-netns", self.name, "link", "set", device, "up")
        self._start_engine(parts)

    def docker(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Run ``docker`` with this engine; what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def load(self, *images: str) -> None:
        """Have it know images of the engine of all tests."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            subprocess.run(
                ["docker", "load", "--quiet"],
                env=self.env,
                stdin=save.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=120,
            )
        assert save.returncode == 0

    def containers(self, service: str) -> list[str]:
        """The containers of a service that run on this node."""
        label = f"label=com.docker.swarm.service.name={service}"
        return self.docker("ps", "--quiet", "--filter", label).split()

    def _start_engine(self, parts: ExitStack) -> None:
        host = f"unix://{self._folder}/docker.sock"
        self.env["DOCKER_HOST"] = host
        (self._folder / "daemon.json").write_text("{}")  # the machine's own would contradict these
        command = [
            *("nsenter", f"--net=/run/netns/{self.name}", "dockerd"),
            *("--config-file", f"{self._folder}/daemon.json", "--host", host),
            *("--data-root", f"{self._folder}/data", "--exec-root", f"{self._folder}/exec"),
            *("--pidfile", f"{self._folder}/pid"),
        ]
        log = parts.enter_context((self._folder / "log").open("w"))
        environment = {**os.environ, "PATH": _path()}
        engine = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        parts.callback(self._end, engine)

        def is_up() -> bool:
            assert engine.poll() is None, (self._folder / "log").read_text()[-2000:]
            return bool(self.docker("version", "--format={{.Server.Version}}", check=False).strip())

        wait_until(is_up, 60, "an engine of the swarm to be up")

    def _end(self, engine: subprocess.Popen[bytes]) -> None:
        """End the engine, which ends its containers; what is left of them is killed."""
        engine.terminate()
        try:
            engine.wait(60)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self._folder) in word for word in process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)

    def _remove_folder(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", mount], capture_output=True, timeout=30)
        shutil.rmtree(self._folder)


class Swarm(Entered):
    """A manager and a worker, from when it is entered."""

    def __init__(self) -> None:
        self.manager, self.worker = Node(0), Node(1)
        self._ids: dict[Node, str] = {}

    def enter(self, parts: ExitStack) -> None:
        """Start the engines and have both join."""
        assert not (reason := lacking()), reason
        for node in (self.manager, self.worker):
            parts.enter_context(node)
        ends = ("netns", self.manager.name, "type", "veth", "peer", "name", LINK, "netns", self.worker.name)
        _ip("link", "add", "name", LINK, *ends)
        for node in (self.manager, self.worker):
            _ip("-netns", node.name, "address", "add", f"{node.inner}/30", "dev", LINK)
            _ip("-netns", node.name, "link", "set", LINK, "up")
        address, other = self.manager.inner, self.worker.inner
        self.manager.docker("swarm", "init", f"--advertise-addr={address}", f"--listen-addr={address}:2377")
        token = self.manager.docker("swarm", "join-token", "--quiet", "worker").strip()
        listen = f"--listen-addr={other}:2377"
        self.worker.docker(
            "swarm", "join", f"--token={token}", f"--advertise-addr={other}", listen, f"{address}:2377"
        )
        wait_until(lambda: self.state(self.worker) == "ready", 30, "the worker to be ready")

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the link: meanwhile each node has vanished for the other one."""
        link = ("-netns", self.manager.name, "link", "set", LINK)
        _ip(*link, "down")
        try:
            yield
        finally:
            _ip(*link, "up")

    @contextmanager
    def drained(self, node: Node) -> Iterator[None]:
        """Have a node drained, and active again."""
        availability = ["node", "update", "--availability"]
        self.manager.docker(*availability, "drain", self.id(node))
        try:
            yield
        finally:
            self.manager.docker(*availability, "active", self.id(node))

    def state(self, node: Node) -> str:
        """The state of a node as the manager sees it: ``ready`` or ``down``."""
        return self.manager.docker("node", "inspect", "--format={{.Status.State}}", self.id(node)).strip()

    def id(self, node: Node) -> str:
        """The id of a node in the swarm."""
        if node not in self._ids:
            self._ids[node] = node.docker("info", "--format={{.Swarm.NodeID}}").strip()
        return self._ids[node]


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["ip", *arguments], env={**os.environ, "PATH": _path()}, capture_output=True, text=True, timeout=30
    )
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done


def _path() -> str:
    """A root shell from plain su lacks the last ones."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
