"""The page says what to do."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slowpool import local_run
from slowpool.config import Config
from slowpool.status.advice import hints
from slowpool.status.report import LearnedRoute

POOL = {
    "instances": 2,
    "answering": 2,
    "waiting": 0,
    "running": 0,
    "workers": 2,
    "places": 16,
    "refused": 0,
    "errors": 0,
}
COMPOSE = Config(fast_host="fast", slow_host="slow")
SWARM = Config(fast_host="tasks.fast", slow_host="tasks.slow")
KUBERNETES = Config(fast_host="fast.shop.svc.cluster.local", slow_host="slow.shop.svc.cluster.local")
LOCAL = Config()


@pytest.fixture
def no_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No local run has noted its settings here."""
    monkeypatch.setattr(local_run, "RUNS", tmp_path)


def advice(config: Config = COMPOSE, **slow: Any) -> list[str]:
    return hints(config, {"fast": POOL, "slow": {**POOL, **slow}}, [], {}, {})


def instance(**values: Any) -> dict[str, Any]:
    return {
        "name": "fast:8001",
        "address": "10.0.0.7",
        "pool": "fast",
        "state": "ready",
        "silent_seconds": 0.2,
        "lost_seconds": None,
        "error": "",
        **values,
    }


def test_nothing_is_said_when_all_is_well() -> None:
    assert advice() == []
    assert advice(running=2, waiting=15) == []


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (COMPOSE, "`docker compose up -d --scale slow=2 slow`"),
        (SWARM, "`docker service scale slowpool_slow=2`"),
        (KUBERNETES, "`kubectl scale deployment/slow --replicas=2 -n shop`"),
        (LOCAL, "`SLOW_WORKERS=2 ./deploy/local`"),
        (Config(fast_host="localhost"), "`FAST_HOST=localhost SLOW_WORKERS=2 ./deploy/local`"),
        (Config(fast_host="fast.example"), "Where there are CPUs left, scale it."),
    ],
)
@pytest.mark.usefixtures("nothing_set", "no_runs")
def test_a_full_pool_is_to_be_scaled_with_a_command_of_the_deployment(config: Config, command: str) -> None:
    (hint,) = advice(config, running=2, waiting=16, refused=7)
    assert hint.startswith("The slow pool is full: it refused 7 requests in the last minute.")
    assert command in hint
    assert "up -d" not in hint or config is COMPOSE
    assert ("maxReplicas" in hint) is (config is KUBERNETES)


@pytest.mark.usefixtures("nothing_set", "no_runs")
def test_a_local_run_is_stopped_before_it_is_started_on_its_ports_with_its_settings() -> None:
    config = Config(http_port=9080, fast_port=9001, app="shop.main:make_app", debug=True)
    (hint,) = advice(config, running=2, waiting=16)
    assert "stop ./deploy/local with Ctrl-C, and start it in the same terminal with" in hint
    command = "HTTP_PORT=9080 FAST_PORT=9001 APP=shop.main:make_app DEBUG=1 SLOW_WORKERS=2 ./deploy/local"
    assert f"`{command}`" in hint


@pytest.mark.usefixtures("nothing_set", "no_runs")
def test_a_command_has_no_password_and_is_quoted_for_a_shell() -> None:
    config = Config(jobs_url="valkey://:secret@store:6379/0", server_names="a.example, *.b.example")
    (hint,) = advice(config, running=2, waiting=16)
    assert "secret" not in hint
    (command,) = re.findall("`(.*) ./deploy/local`", hint)
    assert command.startswith("SERVER_NAMES='a.example, *.b.example' JOBS_URL=")
    pasted = ["sh", "-c", f"{command} printenv JOBS_URL"]
    path = {"PATH": os.environ["PATH"]}
    assert subprocess.check_output(pasted, env={**path, "JOBS_URL": "a b"}, text=True) == "a b\n"
    without = subprocess.run(pasted, env=path, capture_output=True, text=True)
    assert (without.returncode != 0, without.stdout) == (True, "")
    assert "JOBS_URL: set it as before" in without.stderr


def test_commands_name_the_project_or_the_stack_when_it_has_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLOWPOOL_PROJECT", "shop")
    for config, command in (
        (COMPOSE, "`docker compose -p shop up -d --scale slow=2 slow`"),
        (SWARM, "`docker service scale shop_slow=2`"),
    ):
        (hint,) = advice(config, refused=1)
        assert command in hint
    failing = {"fast": POOL, "slow": {**POOL, "errors": 1}}
    assert "`docker compose -p shop logs slow` says why" in hints(COMPOSE, failing, [], {}, {})[0]
    assert "`docker service logs shop_slow` says why" in hints(SWARM, failing, [], {}, {})[0]


@pytest.mark.parametrize(
    ("config", "log"),
    [
        (COMPOSE, "`docker compose logs slow` says why."),
        (LOCAL, "the terminal of ./deploy/local says why."),
        (
            KUBERNETES,
            "`kubectl logs -l app.kubernetes.io/component=slow --prefix --tail=100 -n shop` says why.",
        ),
        (Config(fast_host="fast.example"), "the log says why."),
    ],
)
def test_the_log_is_where_the_deployment_has_it(config: Config, log: str) -> None:
    (hint,) = hints(config, {"fast": POOL, "slow": {**POOL, "errors": 3}}, [], {}, {})
    assert hint == f"3 requests of the slow pool failed in the last minute: {log}"


def test_one_that_was_full_a_moment_ago_is_still_named() -> None:
    (hint,) = advice(refused=1)
    assert hint.startswith("The slow pool was full: it refused 1 request in the last minute.")


def test_a_pool_without_instances_is_to_be_started() -> None:
    (hint,) = advice(instances=0, answering=0, workers=0, places=0)
    assert hint == (
        "No instance of the slow pool answers: `docker compose logs slow` says why. Only if it was scaled to "
        "0, start one with `docker compose up -d --scale slow=1 slow`"
    )


def test_replicas_that_hang_are_not_scaled_to_one() -> None:
    (hint,) = advice(instances=3, answering=0)
    assert hint == "No instance of the slow pool answers: `docker compose logs slow` says why."


@pytest.mark.usefixtures("nothing_set", "no_runs")
def test_a_local_run_whose_pool_is_gone_is_not_started_beside_itself() -> None:
    (hint,) = advice(Config(http_port=9080), instances=0, answering=0, workers=0, places=0)
    assert hint == (
        "No instance of the slow pool answers: the terminal of ./deploy/local says why. If it does not run, "
        "start it with `HTTP_PORT=9080 ./deploy/local`"
    )


def test_an_instance_that_is_silent_or_was_lost_is_named_with_where_to_look() -> None:
    pools = {"fast": POOL, "slow": POOL}
    silent = instance(state="no answer", silent_seconds=4.2, error="no answer in time")
    lost = instance(name="fast:8002", lost_seconds=12.0)
    long_ago = instance(name="fast:8003", lost_seconds=100.0)
    first, second = hints(COMPOSE, pools, [silent, lost, long_ago], {}, {})
    assert first.startswith("fast:8001 at 10.0.0.7 has not answered for 4 s (no answer in time).")
    assert second.startswith("fast:8002 at 10.0.0.7 died and was restarted 12 s ago;")
    assert "`docker compose logs fast`" in first
    assert "`docker compose logs fast`" in second


def test_a_route_that_blocks_belongs_in_the_slow_pool() -> None:
    (hint,) = hints(LOCAL, {"fast": POOL, "slow": POOL}, [], {"/report": 1.234}, {})
    assert hint.startswith("/report blocked its fast instance for 1.23 s")
    assert "slow pool" in hint


def test_what_an_instance_says_is_never_a_command() -> None:
    text = "`sh evil`"
    instances = [instance(state=state, error=text) for state in ("no answer", "unreadable")]
    learned = LearnedRoute(route=text, line=text, blocked_seconds=1.2, left_seconds=540.0)
    found = hints(LOCAL, {"fast": POOL, "slow": POOL}, instances, {text: 1.2}, {text: learned})
    assert ["'sh evil'" in hint for hint in found] == [True] * 3
    assert not any("`" in hint for hint in found)


def test_a_learned_route_is_named_with_its_line_and_what_to_write() -> None:
    line = "shop/reports.py:12, in build"
    learned = LearnedRoute(route="/report", line=line, blocked_seconds=1.2, left_seconds=540.0)
    (hint,) = hints(LOCAL, {"fast": POOL, "slow": POOL}, [], {"/report": 1.234}, {"/report": learned})
    assert f"/report blocked its fast instance for 1.23 s, at {line}" in hint
    assert "slow pool for the next 540 s" in hint
    assert "await slowpool.run(" in hint


def test_failures_are_counted() -> None:
    (hint,) = hints(LOCAL, {"fast": {**POOL, "errors": 3}, "slow": POOL}, [], {}, {})
    assert hint.startswith("3 requests of the fast pool failed in the last minute")
    (hint,) = hints(LOCAL, {"fast": {**POOL, "errors": 1}, "slow": POOL}, [], {}, {})
    assert hint.startswith("1 request of the fast pool failed in the last minute")
