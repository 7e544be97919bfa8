"""What has changed since a local run was started."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool import local_run
from slowpool.config import Config
from slowpool.local_run import Run, run_dir, set_in_shell
from tests.support.basics import ROOT, free_ports


@pytest.fixture(autouse=True)
def env_file(nothing_set: None, tmp_path: Path) -> Path:
    """The file ``.env`` of the folder that the test is in, which is not the project's."""
    return tmp_path / ".env"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs are kept; pytest's own folders have paths too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        monkeypatch.setattr(local_run, "RUNS", Path(folder))
        yield Path(folder)


@pytest.fixture
def started(runs: Path, env_file: Path) -> Iterator[None]:
    """A run, started with SLOW_QUEUE=3 in ``.env``."""
    env_file.write_text("SLOW_QUEUE=3\n")
    folder = run_dir(Config.load())
    folder.mkdir()
    Run.note(folder, Config.load())
    with socket.socket(socket.AF_UNIX) as supervisor:
        supervisor.bind(str(folder / "supervisor.sock"))
        supervisor.listen()
        yield


def changes() -> dict[str, tuple[str, str]]:
    """What has changed since."""
    config = Config.load()
    run = Run.find(config)
    assert run
    return run.changes(config)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("SLOW_QUEUE=3\n", {}),
        ("SLOW_QUEUE=03\nSLOW_TIMEOUT_SECONDS=60\nNOT_OURS=1\n", {}),
        ("slow_queue=4\n", {"SLOW_QUEUE": ("3", "4")}),
        ("", {"SLOW_QUEUE": ("3", "8")}),
        ("SLOW_QUEUE=3\nDEBUG=1\n", {"DEBUG": ("0", "1")}),
        ("SLOW_QUEUE=3\nHTTP_PORT=9080\n", {"HTTP_PORT": ("8080", "9080")}),
    ],
)
def test_a_change_of_the_file_is_seen(
    env_file: Path, file: str, expected: dict[str, tuple[str, str]]
) -> None:
    env_file.write_text(file)
    assert changes() == expected


@pytest.mark.usefixtures("started")
def test_a_change_in_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW_QUEUE", "3")
    monkeypatch.setenv("SLOW_TIMEOUT_SECONDS", "60.0")
    assert changes() == {}
    monkeypatch.setenv("SLOW_QUEUE", "5")
    assert changes() == {"SLOW_QUEUE": ("3", "5")}


@pytest.mark.usefixtures("runs")
def test_what_was_set_only_where_it_was_started_has_not_changed(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("SLOW_WORKERS", "7")
    request.getfixturevalue("started")
    monkeypatch.delenv("SLOW_WORKERS")
    assert changes() == {}
    run = Run.find(Config.load())
    assert run
    assert run.config.slow_workers == 7


@pytest.mark.usefixtures("started")
def test_a_run_with_another_port_in_the_environment_is_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "9080")
    assert Run.find(Config.load()) is None


def test_what_an_ended_run_has_left_is_no_run(runs: Path) -> None:
    Run.note(runs, Config.load())
    (runs / "8080").mkdir()
    Run.note(runs / "8080", Config.load())
    assert Run.find(Config.load()) is None


@pytest.mark.usefixtures("started")
def test_a_run_of_a_release_that_noted_nothing_has_no_changes(runs: Path, env_file: Path) -> None:
    (runs / "8080" / "settings.json").unlink()
    env_file.write_text("SLOW_QUEUE=9\n")
    assert changes() == {}


def test_what_is_set_in_the_shell_is_neither_a_default_nor_in_the_file_of_the_run(
    runs: Path, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("SLOW_QUEUE=3\nSLOW_FORK=0\nSLOW_NICE=5\n")
    monkeypatch.setenv("HTTP_PORT", "9080")
    monkeypatch.setenv("SLOW_NICE", "7")
    config = Config.load()
    assert set_in_shell(config) == {"HTTP_PORT": "9080", "SLOW_NICE": "7"}
    run_dir(config).mkdir()
    Run.note(run_dir(config), config)
    env_file.write_text("")  # the run has what was in it when it was started
    assert set_in_shell(config) == {"HTTP_PORT": "9080", "SLOW_NICE": "7"}


@pytest.mark.usefixtures("runs")
def test_a_default_that_is_set_in_the_shell_is_told_if_the_file_has_another_value(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("FAST_PROCESSES=4\nSLOW_QUEUE=8\n")
    monkeypatch.setenv("FAST_PROCESSES", "2")
    monkeypatch.setenv("SLOW_PROCESSES", "2")
    assert set_in_shell(Config.load()) == {"FAST_PROCESSES": "2"}


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("content", ["", '{"settings": {', "{}"])
def test_a_run_whose_noted_settings_cannot_be_read_has_those_of_now(runs: Path, content: str) -> None:
    (runs / "8080" / "settings.json").write_text(content)
    assert set_in_shell(Config.load()) == {}
    assert changes() == {}


COMMAND = """
import pathlib, sys
from slowpool import __main__, local_run
local_run.RUNS = pathlib.Path(sys.argv[1])
sys.exit(__main__.main(sys.argv[2:]))
"""


def slowpool(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``slowpool`` with these arguments, where these runs are."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "app")}
    for name in ("FAST_PORT", "SLOW_PORT"):
        env |= {name: str(free_ports()), name.replace("PORT", "PROCESSES"): "1"}
    command = [sys.executable, "-c", COMMAND, str(runs), *arguments]
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "command",
    [["stack", "a"], ["cancel", "a", "--yes"], ["restart", "fast:1", "--yes"], ["roll", "fast", "--yes"]],
)
def test_nobody_acts_on_a_guess_beside_runs_with_another_port(
    runs: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("HTTP_PORT", "9080")
    request.getfixturevalue("started")
    monkeypatch.delenv("HTTP_PORT")
    done = slowpool(runs, *command)
    hint = "slowpool: ./deploy/local runs with another HTTP_PORT: set HTTP_PORT to 9080\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", hint)
    shown = slowpool(runs, "jobs")
    assert (shown.returncode, shown.stderr) == (0, hint)
    assert shown.stdout
    monkeypatch.setenv("HTTP_PORT", "9081")
    assert "HTTP_PORT" not in slowpool(runs, *command).stderr
    monkeypatch.delenv("HTTP_PORT")
    (runs / "9080" / "supervisor.sock").unlink()
    assert "HTTP_PORT" not in slowpool(runs, *command).stderr, "it has ended"
