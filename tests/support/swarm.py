"""A swarm of two engines on one machine: that of all the tests, and one in a network of its own."""

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
"""Of the link between the nodes, a network for tests (RFC 2544); another one in each run."""

ADDRESSES = f"{NETWORK}.1", f"{NETWORK}.2"


def lacking() -> str:
    """What this machine lacks for a swarm of two engines; empty where it has everything."""
    if not ENGINE:
        return WITHOUT_ENGINE
    if os.geteuid() != 0:
        return "a second engine needs root"
    missing = [name for name in ("dockerd", "ip", "nsenter") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"there is no {missing[0]} here"
    if Node(ADDRESSES[0]).docker("info", "--format={{.Swarm.LocalNodeState}}").strip() != "inactive":
        return "this engine is part of a swarm already (of an earlier test? docker swarm leave --force)"
    name = f"sp{secrets.token_hex(4)}"
    for kind in (["vxlan", "id", "77", "dstport", "0"], ["veth"]):
        if _ip("link", "add", name, "type", *kind, check=False).returncode:
            return f"this kernel has no {kind[0]}"
        _ip("link", "del", name)
    return ""


class Node:
    """An engine that is part of the swarm: ``host`` is what DOCKER_HOST is for it, None for the usual one."""

    def __init__(self, address: str, host: str | None = None) -> None:
        self.address = address
        self.env = {**os.environ} if host is None else {**os.environ, "DOCKER_HOST": host}

    def docker(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Run ``docker`` with this engine; what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """The containers of a service that run on this node."""
        label = f"label=com.docker.swarm.service.name={service}"
        return self.docker("ps", "--quiet", "--filter", label).split()


class Swarm(Entered):
    """Two nodes, from when it is entered: a manager and a worker, which another network namespace is for."""

    def __init__(self) -> None:
        self._name = f"sp{secrets.token_hex(4)}"
        self._ids: dict[Node, str] = {}
        self._folder = Path()
        self.manager = Node(ADDRESSES[0])
        self.worker = Node(ADDRESSES[1])

    def enter(self, parts: ExitStack) -> None:
        """Start the second engine and have both join."""
        assert not (reason := lacking()), reason
        # Not below pytest's folder: the paths of sockets end at 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="slowpool-node-", dir="/var/tmp"))
        parts.callback(self._remove_folder)
        self._make_network(parts)
        self._start_engine(parts)
        self._join(parts)

    def load_images(self, *images: str) -> None:
        """Have the worker's engine know images of the manager's."""
        save = subprocess.Popen(["docker", "save", *images], env=self.manager.env, stdout=subprocess.PIPE)
        with save:
            subprocess.run(
                ["docker", "load", "--quiet"],
                env=self.worker.env,
                stdin=save.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=120,
            )
        assert save.returncode == 0

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the link: meanwhile each node has vanished for the other one."""
        _ip("link", "set", self._name, "down")
        try:
            yield
        finally:
            _ip("link", "set", self._name, "up")

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

    def _make_network(self, parts: ExitStack) -> None:
        _ip("netns", "add", self._name)
        parts.callback(_ip, "netns", "del", self._name, check=False)
        _ip("link", "add", self._name, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        parts.callback(_ip, "link", "del", self._name, check=False)
        _ip("address", "add", f"{ADDRESSES[0]}/30", "dev", self._name)
        _ip("-netns", self._name, "address", "add", f"{ADDRESSES[1]}/30", "dev", "eth0")
        _ip("-netns", self._name, "link", "set", "lo", "up")
        _ip("-netns", self._name, "link", "set", "eth0", "up")
        _ip("link", "set", self._name, "up")

    def _start_engine(self, parts: ExitStack) -> None:
        host = f"unix://{self._folder}/docker.sock"
        self.worker = Node(ADDRESSES[1], host)
        (self._folder / "daemon.json").write_text("{}")  # the machine's own would contradict these
        command = [
            *("nsenter", f"--net=/run/netns/{self._name}", "dockerd"),
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
            return bool(self.worker.docker("version", "--format={{.Server.Version}}", check=False).strip())

        wait_until(is_up, 60, "the second engine to be up")

    def _join(self, parts: ExitStack) -> None:
        address, other = ADDRESSES
        listen = f"--listen-addr={address}:2377"
        self.manager.docker("swarm", "init", f"--advertise-addr={address}", listen)
        parts.callback(self.manager.docker, "network", "rm", "docker_gwbridge", check=False)
        parts.callback(self.manager.docker, "swarm", "leave", "--force")
        token = self.manager.docker("swarm", "join-token", "--quiet", "worker").strip()
        listen = f"--listen-addr={other}:2377"
        self.worker.docker(
            "swarm", "join", f"--token={token}", f"--advertise-addr={other}", listen, f"{address}:2377"
        )
        wait_until(lambda: self.state(self.worker) == "ready", 30, "the worker to be ready")

    def _end(self, engine: subprocess.Popen[bytes]) -> None:
        """End the second engine, which ends its containers; what is left of them is killed."""
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


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["ip", *arguments], env={**os.environ, "PATH": _path()}, capture_output=True, text=True, timeout=30
    )
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done


def _path() -> str:
    """A root shell from plain su lacks the last ones."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
