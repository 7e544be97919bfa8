"""Every query of the dashboard and every alert, run by a real Prometheus that scrapes the real system."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.client import request
from tests.support.compose import Compose
from tests.support.engine import needs_engine

FOLDER = ROOT / "deploy" / "observability"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS: list[dict[str, Any]] = json.loads((FOLDER / "grafana/dashboards/slowpool.json").read_text())["panels"]

needs_prometheus = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL), reason="there is no prometheus; install it: apt install prometheus"
)
pytestmark = [needs_prometheus, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A Prometheus that watches nginx and both pools while something of each kind goes on."""
    port, over = free_ports(), threading.Event()
    files = "tests/deploy/health.yml:tests/deploy/observability.yml"
    with Compose(files, APP="tests.apps.watched:make_app", SLOW_QUEUE=1, SLOW_PER_CLIENT=0) as stack:
        stack.env |= {"PROMETHEUS": str(PROMETHEUS), "PROMETHEUS_PORT": str(port)}
        stack.env |= {"COMPOSE_PROFILES": "observability"}
        stack("up", "--build", "--detach", "nginx", "fast", "slow", "prometheus")
        wait_until(lambda: len(up(port)) == 5 and set(up(port)) == {"1"}, 60, "five targets that are up")

        def go_on() -> None:
            """To the end: a rate over the last minute is NaN where nothing has happened in it."""
            while not over.wait(1):
                list(clients.map(stack.get, ["/report/tea?seconds=0.4", "/slow/task/exits", "/no/route"]))
                list(clients.map(stack.get, ["/slow/task/sleep?seconds=2"] * 8))

        with ThreadPoolExecutor(8) as clients, ThreadPoolExecutor(1) as executor:
            traffic = executor.submit(go_on)
            yield port
            over.set()
            traffic.result()


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What an expression gives now."""
    response = request(port, f"/api/v1/query?{urlencode({'query': expression})}")
    answer = json.loads(response.text)
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def up(port: int) -> list[str]:
    try:
        return [sample["value"][1] for sample in query(port, "up")]
    except (OSError, ValueError):  # it answers with a text until it is ready
        return []


def values(port: int, expression: str) -> list[str]:
    """What a panel draws; none of it until all of it are numbers."""
    found = [sample["value"][1] for sample in query(port, expression)]
    return [] if "NaN" in found else found


@needs_engine
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_query_of_the_dashboard_finds_something(port: int, panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        wait_until(lambda: values(port, target["expr"]), 60, target["expr"])  # noqa: B023  # waits here


@needs_engine
def test_every_alert_can_be_evaluated_and_those_of_what_went_on_are_raised(port: int) -> None:
    def evaluated() -> dict[str, dict[str, Any]] | None:
        groups = json.loads(request(port, "/api/v1/rules").text)["data"]["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return rules if all(rule["health"] == "ok" for rule in rules.values()) else None

    rules = wait_until(evaluated, 30)
    assert rules
    assert rules.keys() == {rule["alert"] for rule in RULES}
    wait_until(lambda: (evaluated() or {})["LoopBlocked"]["state"] == "firing", 60)
    wait_until(lambda: (evaluated() or {})["SlowPoolFull"]["state"] in ("pending", "firing"), 60)
    assert (evaluated() or {})["PoolGone"]["state"] == "inactive"


def test_promtool_finds_nothing_wrong_and_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    shutil.copy(Path(__file__).parent / "alerts_test.yml", tmp_path)
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([str(PROMTOOL), *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load((tmp_path / "alerts_test.yml").read_text())["tests"]
    tested = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert tested == {rule["alert"] for rule in RULES}
