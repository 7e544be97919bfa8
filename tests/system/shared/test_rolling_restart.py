"""``deploy/rolling-restart`` of a local run."""

import json
import os
import re
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.checkout import copy_checkout
from tests.support.gate import Gate
from tests.support.load import Client, Load, Outcome
from tests.support.system import System
from tests.support.watching import texts


def test_every_instance_is_replaced_and_no_request_is_lost(tmp_path: Path) -> None:
    with System(APP="tests.apps.recording:make_app") as system:
        before = pids(system)
        clients = [
            Client(method, f"/record?folder={tmp_path}", 40, keeps)
            for method in ("GET", "POST")
            for keeps in (True, False)
        ]
        clients.append(Client("GET", "/slow/record?milliseconds=200", 10, fast=False))
        with Load(system.port, clients) as load:
            done = rolling_restart(system)
        assert (done.returncode, done.stderr) == (0, "")
        after = pids(system)
        assert before.keys() == after.keys()
        assert not set(before.values()) & set(after.values())
        assert len(done.stdout.splitlines()) == len(before)
        assert len(load.requests) > 500
        assert {request.outcome for request in load.requests} == {Outcome.ANSWERED}


def test_one_pool_can_be_restarted_alone_and_its_jobs_finish(
    controlled: System, gate: Gate, background: ThreadPoolExecutor
) -> None:
    before = pids(controlled)
    answers = [background.submit(controlled.get, gate("/slow/task")) for _ in range(2)]
    gate.wait_for(2)
    restart = background.submit(rolling_restart, controlled, "slow")
    wait_until(lambda: restart.done() or re.search(r"slow:\d+ drains", controlled.output), 90)
    assert not restart.done(), restart.result()
    gate.open()
    assert [answer.result().text for answer in answers] == ["released"] * 2
    assert restart.result().returncode == 0
    changed = {name for name, pid in pids(controlled).items() if pid != before[name]}
    assert changed == {name for name in before if name.startswith("slow")}


@pytest.mark.parametrize(
    "seconds", [0, pytest.param(2, marks=pytest.mark.long)]
)  # before and after supervisor takes it for started
def test_an_instance_that_does_not_come_back_is_the_end_and_the_rest_is_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    broken = tmp_path / "broken"
    monkeypatch.setenv("BROKEN", str(broken))
    with System(harmed=True, APP="tests.apps.breakable:make_app", SLOW_PROCESSES=1) as system:
        before = pids(system)
        broken.write_text(str(seconds))
        with Load(system.port, [Client("GET", "/ok", 50)]) as load:
            done = rolling_restart(system, "fast")
        (line,) = done.stderr.splitlines()
        first, second = (f"fast-{port}" for port in system.instances("fast"))
        assert done.returncode == 1
        assert line.startswith(f"rolling-restart: fast:{first} did not come back: ")
        assert line.endswith(f"its log says why; not touched: fast:{second}")
        assert "the new release is broken" in system.output
        assert {request.status for request in load.requests} == {200}
        assert pids(system) == {**before, first: 0}
        failed = wait_until(lambda: texts(system.instances("slow")[0], "roll"))[0]
        assert failed.startswith(f"roll {first.replace('-', ':')}: did not come back, and the roll ends: ")
        broken.unlink()
        done = rolling_restart(system, "fast")
        assert done.returncode == 0
        assert done.stdout.startswith(f"rolling-restart: fast:{first} is ready again")
        assert 0 not in pids(system).values()
        assert system.stop() == 0


def test_a_setting_that_has_changed_is_refused_and_named(controlled: System) -> None:
    before = pids(controlled)
    done = run(controlled.port, SLOW_TIMEOUT_SECONDS="30", SLOW_QUEUE="8", SLOW_WORKERS="2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "rolling-restart: nothing was touched: settings differ from those that ./deploy/local was "
        "started with, restart it: SLOW_WORKERS=0 (now: 2), SLOW_TIMEOUT_SECONDS=60 (now: 30)\n"
    )
    assert pids(controlled) == before


@pytest.mark.usefixtures("controlled")  # has made .venv
def test_a_change_of_the_file_env_is_refused_until_it_is_taken_back(tmp_path: Path) -> None:
    # pytest's own folders have paths too long for supervisor's socket.
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        clone = Path(folder)
        copy_checkout(clone)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        file = clone / ".env"
        file.write_text("SLOW_QUEUE=5\nSLOW_WORKERS=2\n")
        changing = ("SLOW_QUEUE", "SLOW_WORKERS", "LOG_LEVEL", "HTTP_PORT")
        with System(clone, left_to_file=changing[:3], SLOW_PROCESSES=1) as system:
            before = pids(system)
            assert stat.S_IMODE((clone / ".run" / str(system.port) / "settings.json").stat().st_mode) == 0o600

            def ask(*command: str | Path) -> subprocess.CompletedProcess[str]:
                env = {name: value for name, value in system.env.items() if name not in changing}
                env["HTTP_PORT"] = str(system.port)
                return subprocess.run(
                    command, cwd=clone, env=env, capture_output=True, text=True, timeout=100
                )

            status = (clone / ".venv" / "bin" / "python", "-m", "slowpool", "status", "--json")
            assert ask(*status).stderr == ""
            file.write_text("SLOW_QUEUE=6\nLOG_LEVEL=debug\n")
            changes = "SLOW_WORKERS=2 (now: 0), SLOW_QUEUE=5 (now: 6), LOG_LEVEL=info (now: debug)"
            done = ask(clone / "deploy" / "rolling-restart")
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.endswith(f"restart it: {changes}\n")
            shown = ask(*status)
            assert shown.returncode == 0
            assert shown.stderr.endswith(f"restart it: {changes}\n")
            pool = json.loads(shown.stdout)["pools"]["slow"]
            assert (pool["places"], pool["workers"]) == (5, 2)
            assert pids(system) == before
            file.write_text("SLOW_QUEUE=5\nSLOW_WORKERS=2\n")
            assert ask(*status).stderr == ""
            assert ask(clone / "deploy" / "rolling-restart", "slow").returncode == 0


def test_where_nothing_runs_it_says_so() -> None:
    done = run(free_ports())
    assert done.returncode == 1
    assert done.stderr.startswith("rolling-restart: no ./deploy/local with HTTP_PORT=")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["medium"], ["fast", "nginx"], ["--compose", "nginx"]])
def test_what_is_no_pool_is_refused_with_usage(arguments: list[str]) -> None:
    done = run(free_ports(), *arguments)
    assert done.returncode == 2
    assert done.stderr == "usage: deploy/rolling-restart [--compose] [fast|slow]\n"


def pids(system: System) -> dict[str, int]:
    """The process of each instance, 0 where none runs."""
    programs = system.supervisor("getAllProcessInfo")
    return {one["name"]: one["pid"] for one in programs if one["group"] in ("fast", "slow")}


def rolling_restart(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it for a system."""
    return run(system.port, *arguments)


def run(port: int, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [ROOT / "deploy" / "rolling-restart", *arguments],
        env={**os.environ, "HTTP_PORT": str(port), **settings},
        capture_output=True,
        text=True,
        timeout=100,
    )
