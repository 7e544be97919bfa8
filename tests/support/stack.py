"""``deploy/swarm`` on a swarm of two engines."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.basics import DEFAULTS, ROOT, Entered, free_ports, wait_until
from tests.support.client import Response, request
from tests.support.compose import docker
from tests.support.compose_file import expand
from tests.support.leftovers import new_name
from tests.support.swarm import Node, Swarm

NOWHERE = "127.0.0.1:9"
"""A registry that refuses at once; a node then takes the image that it has."""

POOLS = ("fast", "slow")
REPLICAS = 2
EDGE, JOBS = "slowpool.edge=true", "slowpool.jobs=true"

BROKEN = "broken"
"""The release that ends as soon as it is started."""

DOCKERFILES = {
    "2": "LABEL release=2",
    BROKEN: "USER root\nRUN mv app gone\nUSER 10001:10001",
}
"""How a release differs from the first."""


def valkey_image() -> str:
    """The image that the stack file names, or the variable of it."""
    services = yaml.safe_load((ROOT / "deploy" / "swarm" / "stack.yml").read_text())["services"]
    return expand(services["valkey"]["image"], os.environ)


class Stack(Entered):
    """The stack: both pools spread over both nodes, and nginx on each; entered when it is up."""

    def __init__(self, record_folder: Path, **settings: object) -> None:
        self.name = new_name()
        self.port = free_ports(2)
        self.swarm = Swarm()
        self._replicas = REPLICAS
        self._image = f"{NOWHERE}/{self.name}"
        ports = {"HTTP_PORT": self.port, "HTTPS_PORT": self.port + 1}
        self._settings = {
            **DEFAULTS,
            **ports,
            "TRUSTED_PROXIES": '"192.0.2.7, 192.0.2.8"',  # in quotes, as a file may have it
            **settings,
            "JOBS_URL": "",  # that of the stack
            "STACK": self.name,
            "SLOWPOOL_NGINX_IMAGE": f"{self._image}-nginx:1",
            "FAST_REPLICAS": REPLICAS,
            "SLOW_REPLICAS": REPLICAS,
            "TESTS": ROOT / "tests",
            "RECORD_FOLDER": record_folder,
        }
        self._file = record_folder.parent / f"{self.name}.env"

    def enter(self, parts: ExitStack) -> None:
        """Build the images with the engine of all tests, have both nodes know them, and deploy."""
        parts.callback(self._file.unlink, missing_ok=True)
        parts.enter_context(self.swarm)
        nginx = f"{self._image}-nginx:1"
        images = [nginx, *map(self.image, ("1", *DOCKERFILES))]
        parts.callback(docker, "image", "rm", "--force", *images)
        self.build(nginx, "nginx")
        self.build(self.image("1"), "--file=deploy/Dockerfile", ".")
        for release, lines in DOCKERFILES.items():
            self.build(self.image(release), "-", text=f"FROM {self.image('1')}\n{lines}\n")
        valkey = valkey_image()
        if not docker("image", "ls", "--quiet", valkey):
            docker("pull", valkey)  # a node has no way to a registry
        for node in self.nodes:
            node.load(*images, valkey)
            self.docker("node", "update", f"--label-add={EDGE}", self.swarm.id(node))
        self.docker("node", "update", f"--label-add={JOBS}", self.swarm.id(self.swarm.manager))
        parts.callback(self._remove)
        self.deploy("1")
        self.wait_until_whole()
        self.wait_until_served()

    @property
    def nodes(self) -> list[Node]:
        """The manager, and the other one."""
        return [self.swarm.manager, self.swarm.worker]

    def docker(self, *arguments: str) -> str:
        """Run ``docker`` with the manager's engine; what it prints."""
        return self.swarm.manager.docker(*arguments, timeout=300)

    def get(self, node: Node, target: str, **options: Any) -> Response:
        """One request to the nginx of a node."""
        return request(self.port, target, address=node.address, **options)

    def image(self, release: str) -> str:
        """The name of the instances' image of a release."""
        return f"{self._image}:{release}"

    def build(self, image: str, *arguments: str, text: str | None = None) -> None:
        """Build an image; ``text`` is a Dockerfile."""
        done = subprocess.run(
            ["docker", "build", f"--tag={image}", *arguments],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr

    def deploy(self, release: str, **settings: object) -> None:
        """Deploy a release, as the documentation says; returns at once."""
        settings = {**self._settings, "SLOWPOOL_IMAGE": self.image(release), **settings}
        self._file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        for_the_test = ["--resolve-image=never", f"--compose-file={ROOT}/tests/deploy/swarm.yml"]
        done = subprocess.run(
            [ROOT / "deploy" / "swarm" / "deploy", self._file, *for_the_test],
            env=self.swarm.manager.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "gnoring" not in done.stdout + done.stderr  # what a swarm does not have
        self._replicas = REPLICAS

    def update(self, release: str, expected: str = "completed") -> None:
        """Deploy a release and wait until both pools have it, or have gone back."""
        with self.updating(expected):
            self.deploy(release)

    def roll_back(self) -> None:
        """Take back the last change of both pools."""
        with self.updating("rollback_completed"):
            for pool in POOLS:
                self.docker("service", "rollback", "--detach", f"{self.name}_{pool}")

    @contextmanager
    def updating(self, expected: str) -> Iterator[None]:
        """Wait until the update that is begun has ended in both pools, as it should."""
        before = {pool: self.update_status(pool) for pool in POOLS}
        yield

        def has_ended(pool: str) -> bool:
            status = self.update_status(pool)
            return status != before[pool] and f'"State":"{expected}"' in status

        wait_until(lambda: all(map(has_ended, POOLS)), 240, f"the update to be {expected}")
        self.wait_until_whole()

    def update_status(self, pool: str) -> str:
        """What the manager says of a pool's last update, as JSON."""
        return self.docker("service", "inspect", "--format={{json .UpdateStatus}}", f"{self.name}_{pool}")

    def scale(self, count: int) -> None:
        """Have this many replicas of each pool, and wait for them."""
        self._replicas = count
        self.docker("service", "scale", "--detach", *(f"{self.name}_{pool}={count}" for pool in POOLS))
        self.wait_until_whole()

    def spread(self) -> None:
        """Have replicas of each pool on each node; as the documentation says, by more and fewer again."""
        if not all(self.replicas(node, pool) for node in self.nodes for pool in POOLS):
            self.scale(2 * REPLICAS)
            self.scale(REPLICAS)
        assert all(self.replicas(node, pool) for node in self.nodes for pool in POOLS)

    def replicas(self, node: Node, pool: str) -> list[str]:
        """The release of each healthy replica of a pool that a node has, without those that drain."""
        tasks = self.docker(
            *("node", "ps", "--no-trunc", "--filter=desired-state=running"),
            *("--format={{.Name}} {{.Image}} {{.CurrentState}}", self.swarm.id(node)),
        )
        found = [line.split() for line in tasks.splitlines()]
        return [
            image.removeprefix(f"{self._image}:")
            for name, image, state, *_ in found
            if name.startswith(f"{self.name}_{pool}.") and state == "Running"
        ]

    def releases(self) -> set[str]:
        """The releases of all replicas."""
        return {release for node in self.nodes for pool in POOLS for release in self.replicas(node, pool)}

    def are_all_on(self, node: Node) -> bool:
        """Whether a node has all replicas of both pools."""
        return all(len(self.replicas(node, pool)) == self._replicas for pool in POOLS)

    def wait_until_whole(self) -> None:
        """Wait until both pools have as many healthy replicas as they should, on whichever nodes."""

        def is_whole() -> bool:
            return all(
                sum(len(self.replicas(node, pool)) for node in self.nodes) == self._replicas for pool in POOLS
            )

        try:
            wait_until(is_whole, 120, "all replicas to run")
        except AssertionError as error:
            error.add_note(self.docker("stack", "ps", "--no-trunc", self.name)[-6000:])
            raise

    def wait_until_served(self) -> None:
        """Wait until the nginx of each node answers from both pools, a few times in a row."""

        def is_served() -> bool:
            paths = ["/record?id=7", "/slow/record?id=7"] * 3
            try:
                return all(self.get(node, path).status == 200 for path in paths for node in self.nodes)
            except OSError:
                return False

        wait_until(is_served, 60, "each node to answer")

    def _remove(self) -> None:
        """Remove the stack, and its containers without letting them drain."""
        self.docker("stack", "rm", self.name)
        label = f"label=com.docker.stack.namespace={self.name}"

        def is_gone() -> bool:
            found = False
            for node in self.nodes:
                if containers := node.docker("ps", "--all", "--quiet", "--filter", label).split():
                    found = True
                    node.docker("rm", "--force", *containers, check=False)
            return not found

        wait_until(is_gone, 60, "the stack to be gone")
