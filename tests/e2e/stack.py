"""``deploy/swarm`` on a swarm of two engines."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.client import Response, request
from tests.support import ROOT, environment, free_ports, wait_until
from tests.swarm import Node, Swarm

NOWHERE = "127.0.0.1:9"
"""A registry that refuses at once; a node then takes the image that it has."""

DEPLOY = ["docker", "stack", "deploy", "--resolve-image=never"]
POOLS = ("fast", "slow")
REPLICAS = 2
EDGE = "slowpool.edge=true"

BROKEN = "broken"
"""The release that ends as soon as it is started."""

DOCKERFILES = {
    "2": "LABEL release=2",
    BROKEN: "USER root\nRUN mv app gone\nUSER 10001:10001",
}
"""How a release differs from the first."""


class Stack:
    """The stack, with the services of both pools on both nodes and nginx on each; entered when it is up."""

    def __init__(self, record_folder: Path, **settings: object) -> None:
        self.name = f"slowpool-test-{uuid.uuid4().hex[:8]}"
        self.port = free_ports(2)
        self._image = f"{NOWHERE}/{self.name}"
        self._env = {
            **environment({"HTTP_PORT": self.port, "HTTPS_PORT": self.port + 1, **settings}),
            "SLOWPOOL_NGINX_IMAGE": f"{self._image}-nginx:1",
            "TESTS": str(ROOT / "tests"),
            "RECORD_FOLDER": str(record_folder),
        }
        self.swarm = Swarm()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.swarm)
            nginx = self._env["SLOWPOOL_NGINX_IMAGE"]
            images = [nginx, *map(self.image, ("1", *DOCKERFILES))]
            stack.callback(self.docker, "image", "rm", "--force", *images)
            self.build(nginx, "nginx")
            self.build(self.image("1"), "--file=deploy/Dockerfile", ".")
            for release, lines in DOCKERFILES.items():
                self.build(self.image(release), "-", text=f"FROM {self.image('1')}\n{lines}\n")
            self.swarm.load_images(*images)
            for node in self.nodes:
                self.docker("node", "update", f"--label-add={EDGE}", self.swarm.id(node))
            stack.callback(self._remove)
            self.deploy("1")
            self.wait_until_whole()
            self.wait_until_served()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for command in (["stack", "ps", "--no-trunc"], ["stack", "services"]):
                error.add_note(self.docker(*command, self.name, check=False)[-6000:])
        self._stack.__exit__(kind, error, traceback)

    @property
    def nodes(self) -> list[Node]:
        """The manager, and the other one."""
        return [self.swarm.manager, self.swarm.worker]

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run ``docker`` with the manager's engine; what it prints."""
        return self.swarm.manager.docker(*arguments, check=check, timeout=300)

    def get(self, node: Node, target: str, **options: Any) -> Response:
        """One request to the nginx of a node."""
        return request(self.port, target, address=node.address, **options)

    def image(self, release: str) -> str:
        """The name of the instances' image of a release."""
        return f"{self._image}:{release}"

    def build(self, image: str, *arguments: str, text: str | None = None) -> None:
        """Build an image with the manager's engine; ``text`` is a Dockerfile."""
        done = subprocess.run(
            ["docker", "build", f"--tag={image}", *arguments],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr

    def deploy(self, release: str, *more: str, **settings: object) -> None:
        """Deploy a release, as the documentation says, with more files and settings; returns at once."""
        files = ["deploy/swarm/stack.yml", *more, "tests/e2e/swarm.yml"]
        changed = {name: str(value) for name, value in settings.items()}
        done = subprocess.run(
            [*DEPLOY, *(f"--compose-file={file}" for file in files), self.name],
            cwd=ROOT,
            env={**self._env, **changed, "SLOWPOOL_IMAGE": self.image(release)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "gnoring" not in done.stdout + done.stderr  # what a swarm does not have

    def update(self, release: str, expected: str = "completed") -> None:
        """Deploy a release and wait until both pools have it, or have gone back."""
        with self.update_that_is(expected):
            self.deploy(release)

    def roll_back(self) -> None:
        """Go back to what both pools were before."""
        with self.update_that_is("rollback_completed"):
            for pool in POOLS:
                self.docker("service", "rollback", "--detach", f"{self.name}_{pool}")

    @contextmanager
    def update_that_is(self, expected: str) -> Iterator[None]:
        """Wait until the update that is begun has ended in both pools, as it should."""
        before = {pool: self.update_status(pool) for pool in POOLS}
        yield

        def has_ended(pool: str) -> bool:
            status = self.update_status(pool)
            return status != before[pool] and status.get("State") == expected

        wait_until(lambda: all(map(has_ended, POOLS)), 240, f"the update to be {expected}")
        self.wait_until_whole()

    def update_status(self, pool: str) -> dict[str, str]:
        """What the manager says of a pool's last update; empty when there was none."""
        (service,) = json.loads(self.docker("service", "inspect", f"{self.name}_{pool}"))
        status: dict[str, str] = service.get("UpdateStatus") or {}
        return status

    def scale(self, count: int) -> None:
        """Have this many replicas of each pool, and wait for them."""
        self.docker("service", "scale", *(f"{self.name}_{pool}={count}" for pool in POOLS))

    def spread(self) -> None:
        """Have a replica of each pool on each node; as the documentation says, by one more and one less."""
        services = [f"{self.name}_{pool}" for pool in POOLS]
        uneven = [one for one in services if not all(node.containers(one) for node in self.nodes)]
        for count in (REPLICAS + 1, REPLICAS) if uneven else ():
            self.docker("service", "scale", *(f"{service}={count}" for service in uneven))
        self.wait_until_whole()
        assert all(node.containers(service) for service in services for node in self.nodes)

    def wait_until_whole(self) -> None:
        """Wait until both pools have all their replicas; one counts when it is healthy."""
        wait_until(self.is_whole, 120, "all replicas to run")

    def wait_until_served(self) -> None:
        """Wait until the nginx of each node answers from both pools, a few times in a row."""

        def is_served() -> bool:
            paths = ["/record?id=7", "/slow/record?id=7"] * 3
            try:
                return all(self.get(node, path).status == 200 for path in paths for node in self.nodes)
            except OSError:
                return False

        wait_until(is_served, 60, "each node to answer")

    def is_whole(self) -> bool:
        """Whether both pools have all their replicas, and nginx runs somewhere."""
        lines = self.docker("stack", "services", "--format={{.Name}} {{.Replicas}}", self.name).splitlines()
        counts = {name: replicas.split("/") for name, replicas in map(str.split, lines)}
        running = {name.rpartition("_")[2]: int(here) for name, (here, _) in counts.items()}
        wanted = {name.rpartition("_")[2]: int(there) for name, (_, there) in counts.items()}
        return running["nginx"] > 0 and all(running[pool] == wanted[pool] for pool in POOLS)

    def releases(self) -> set[str]:
        """The releases of the instances that run, on either node."""
        found = set()
        for node in self.nodes:
            for pool in POOLS:
                for container in node.containers(f"{self.name}_{pool}"):
                    image = node.docker("inspect", "--format={{.Config.Image}}", container).strip()
                    found.add(image.removeprefix(f"{self._image}:"))
        return found

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
