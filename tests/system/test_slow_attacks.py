"""The promise, under attack: 1,000 clients that are slow on purpose do not hurt honest ones.

The test counts: each honest request is answered while all slow clients are connected. With
``--attack-rounds=9``, and nothing beside it, it measures and prints latencies, of the containers too.
"""

import contextlib
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.bench.openloop import open_loop, percentile
from tests.support.basics import wait_until
from tests.support.client import request as ask
from tests.support.compose import Compose
from tests.support.engine import needs_engine
from tests.support.system import System

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("slowhttptest"), reason="there is no slowhttptest here"),
]

CONNECTIONS = 1_000
ATTACKS = {
    "slow headers": "-H -i 3 -u http://127.0.0.1:{port}/record?id=7",
    "slow body": "-B -i 3 -s 1000000 -u http://127.0.0.1:{port}/record?id=7",
    "slow read": "-X -n 1 -w 256 -y 512 -z 32 -u http://127.0.0.1:{port}/large",
}
SETTLE_SECONDS = {("containers", "slow read"): 5}
"""Docker's proxy, in front of the containers, takes whole answers in: half a gigabyte, which passes."""

ATTACK_SECONDS = 60
"""After which slowhttptest ends by itself; nginx closes a connection without a header after 10 s."""

RATE = 300
SECONDS = 3
RATIO_GOAL = 1.2


@dataclass(frozen=True)
class Target:
    """What is attacked; ``clients`` says how many it is connected to."""

    where: str
    port: int
    clients: Callable[[], int]


@pytest.fixture(scope="module")
def local() -> Iterator[Target]:
    with System(APP="tests.apps.recording:make_app", LOG_LEVEL="warning") as system:
        nginx = psutil.Process(int(system.program("nginx")["pid"]))

        def clients() -> int:
            return sum(
                connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == system.port
                for worker in nginx.children()
                for connection in worker.net_connections("tcp")
            )

        target = Target("local", system.port, clients)
        honest_p99(target)  # the first seconds are slower than all that come after
        yield target


@pytest.fixture(scope="module")
def containers(attack_rounds: int) -> Iterator[Target]:
    if attack_rounds == 1:
        pytest.skip("only with more than one of --attack-rounds")
    changes = "tests/deploy/health.yml:tests/deploy/test_routes.yml"
    with Compose(changes, APP="tests.apps.recording:make_app", LOG_LEVEL="warning") as stack:
        stack("up", "--build", "--detach", "--wait", "--wait-timeout=200")

        def clients() -> int:
            return int(ask(stack.admin_port, "/status/nginx").text.split()[2])

        target = Target("containers", stack.port, clients)
        honest_p99(target)
        yield target


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "where", ["local", pytest.param("containers", marks=[needs_engine, pytest.mark.slow])]
)
def test_1000_slow_clients_do_not_hurt_honest_ones(
    request: pytest.FixtureRequest,
    where: str,
    attack: str,
    attack_rounds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target: Target = request.getfixturevalue(where)
    rounds = []
    for number in range(attack_rounds):
        p99 = {}
        halves = ["idle", "attacked"] if number % 2 else ["attacked", "idle"]
        for half in halves if attack_rounds > 1 else ["attacked"]:
            with under_attack(target, attack) if half == "attacked" else contextlib.nullcontext():
                p99[half] = honest_p99(target)
        rounds.append(p99)
    if attack_rounds == 1:
        return
    ratio = statistics.median(p99["attacked"] / p99["idle"] for p99 in rounds)
    idle, attacked = (1_000 * statistics.median(p99[half] for p99 in rounds) for half in ("idle", "attacked"))
    with capsys.disabled():
        print(
            f"\n{where}, {attack}, {attack_rounds} rounds: "
            f"p99 {idle:.1f} ms idle, {attacked:.1f} ms attacked, ratio {ratio:.2f} (goal {RATIO_GOAL})"
        )


@contextlib.contextmanager
def under_attack(target: Target, attack: str) -> Iterator[None]:
    """All connections hang, from the beginning of the block to its end."""
    options = ATTACKS[attack].format(port=target.port)
    bounds = f"-c {CONNECTIONS} -r {CONNECTIONS // 2} -l {ATTACK_SECONDS} -p {ATTACK_SECONDS}"
    with subprocess.Popen(
        ["slowhttptest", *options.split(), *bounds.split()], stdout=subprocess.DEVNULL
    ) as attacker:
        try:
            wait_until(lambda: target.clients() >= CONNECTIONS, what=f"{CONNECTIONS} connections")
            ask(target.port, "/record?id=7")  # behind all that they have asked for
            time.sleep(SETTLE_SECONDS.get((target.where, attack), 0))
            yield
            assert target.clients() >= CONNECTIONS
        finally:
            attacker.kill()
    wait_until(lambda: target.clients() < 100, what="nginx to let go of the attackers")


def honest_p99(target: Target) -> float:
    """Of clients that ask, whatever happens, at a constant rate; each must be answered."""
    answers = open_loop(f"http://127.0.0.1:{target.port}/record?id=7", RATE, SECONDS)
    assert {answer.status for answer in answers} == {200}
    return percentile((answer.latency_seconds for answer in answers), 99)
