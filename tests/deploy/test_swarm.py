"""deploy/swarm on two engines; its faults are also those of tests/bench/faults --environment swarm."""

import json
import random
import ssl
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.fault_schedule import examine
from tests.support.stack import POOLS, Stack
from tests.support.swarm import Node, lacking
from tests.support.targets import OnSwarm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = ["update"]
SHORT_REQUESTS_PER_SECOND = 100
"""Far fewer than two cores can serve."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the instances record what has run."""
    folder = tmp_path_factory.mktemp("record")
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[OnSwarm]:
    if reason := lacking():
        pytest.skip(reason)
    with OnSwarm(folder, random.Random(8)) as target:
        yield target


@pytest.fixture
def stack(target: OnSwarm) -> Stack:
    return target.stack


def test_each_nginx_asks_the_instances_of_both_nodes_and_status_has_them_all(stack: Stack) -> None:
    for node in stack.nodes:
        for pool, path in zip(POOLS, ("/record", "/slow/record"), strict=True):

            def asks_all(node: Node = node, pool: str = pool, path: str = path) -> bool:
                before = requests_of_instances(stack)
                for _ in range(20):
                    response = stack.get(node, f"{path}?id=7")
                    assert (response.status, response.text, response.pool) == (200, "7", pool)
                after = requests_of_instances(stack)
                asked = {one for one in after if after[one] > before[one]}
                assert {name for name, _, _ in asked} == {pool}
                assert len({address for name, address, _ in after if name == pool}) == 2
                return asked == {one for one in after if one[0] == pool}

            wait_until(asks_all, what=f"the nginx of {node.address} to ask all of the {pool} pool")


def test_an_accepted_job_is_known_on_both_nodes(stack: Stack) -> None:
    target = "/slow/job?folder=/record&id=accepted&milliseconds=1"

    def accept() -> str | None:
        answer = stack.get(stack.nodes[0], target, headers={"Prefer": "respond-async"})
        return answer.headers["Location"] if answer.status == 202 else None

    job = wait_until(accept, 60, "a job to be accepted")  # Valkey starts last
    for node in stack.nodes:
        wait_until(lambda: stack.get(node, str(job)).json()["state"] == "done")  # noqa: B023  # waits here
        assert stack.get(node, f"{job}/result").text == "accepted"


def test_no_request_fails_that_need_not(
    target: OnSwarm, folder: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    without: Collection[str] = ()
    if pytestconfig.getoption("--short"):
        without = target.events.keys() - SHORT
        monkeypatch.setattr(OnSwarm, "requests_per_second", SHORT_REQUESTS_PER_SECOND)
    findings = examine(target, folder, 1, without)
    assert not findings.wrong
    for row in findings.rows.values():
        assert row.refused == 0, row


@needs_openssl
@pytest.mark.long
def test_with_tls_each_node_has_the_certificate_of_its_secret(stack: Stack, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    stack.deploy("1", TLS_CERTIFICATE=certificate, TLS_KEY=key)
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    for node in stack.nodes:

        def answers(node: Node = node) -> bool:
            url = f"https://{node.address}:{stack.port + 1}/record?id=7"
            try:
                with urllib.request.urlopen(url, context=context, timeout=5) as response:
                    return bool(response.read() == b"7")
            except OSError:
                return False

        wait_until(answers, 60, f"{node.address} to answer over TLS")
        redirect = stack.get(node, "/record?id=7")
        assert (redirect.status, redirect.headers["Location"]) == (
            308,
            f"https://{node.address}:{stack.port + 1}/record?id=7",
        )


def requests_of_instances(stack: Stack) -> dict[tuple[str, str, int], int]:
    """Pool, address and port of each instance -> how many requests it has had, as status says."""
    (container, *_) = stack.swarm.manager.containers(f"{stack.name}_fast")
    answer = json.loads(stack.docker("exec", container, "python", "-m", "slowpool", "status", "--json"))
    return {(one["pool"], one["address"], one["port"]): one["requests"] for one in answer["instances"]}
