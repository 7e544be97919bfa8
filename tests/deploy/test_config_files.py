"""Configuration files have no unknown keys, and figures that belong together agree."""

import configparser
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane.analyzer
import pytest
import yaml
from supervisor.options import ServerOptions

from deploy.supervise import run
from slowpool.config import IDLE_SECONDS, Config
from tests.support.basics import ROOT, environment
from tests.support.certificate import make_certificate
from tests.support.compose_file import COMPOSE, compose, expand
from tests.support.nginx import (
    DOCKER,
    LOCAL,
    Directive,
    directives,
    errors,
    parse,
    render,
    render_environment,
    seconds,
)

SUPERVISOR_FILES = [ROOT / "deploy" / "supervisord.conf", *(ROOT / "deploy" / "programs").glob("*.conf")]

# https://supervisord.org/configuration.html, of version 4.3
PROGRAM_KEYS = """
    command process_name numprocs numprocs_start priority autostart startsecs startretries autorestart
    exitcodes stopsignal stopwaitsecs stopasgroup killasgroup user redirect_stderr
    stdout_logfile stdout_logfile_maxbytes stdout_logfile_backups stdout_capture_maxbytes
    stdout_events_enabled stdout_syslog
    stderr_logfile stderr_logfile_maxbytes stderr_logfile_backups stderr_capture_maxbytes
    stderr_events_enabled stderr_syslog
    environment directory umask serverurl
"""
SUPERVISOR_KEYS = {
    "unix_http_server": "file chmod chown username password",
    "supervisord": """
        logfile logfile_maxbytes logfile_backups loglevel pidfile umask nodaemon silent minfds minprocs
        nocleanup childlogdir user directory strip_ansi environment identifier
    """,
    "supervisorctl": "serverurl username password prompt history_file",
    "rpcinterface": "supervisor.rpcinterface_factory retries",
    "program": PROGRAM_KEYS,
    "eventlistener": PROGRAM_KEYS + "buffer_size events result_handler",
    "include": "files",
}

# Newer than crossplane's list: https://nginx.org/en/docs/dirindex.html
NEW_DIRECTIVES = {"add_header_inherit", "http2", "keepalive_min_timeout", "max_headers"}
SERVER_PARAMETERS = {"max_fails", "fail_timeout", "resolve"}

OBSERVABILITY = ROOT / "deploy" / "observability"
DATA_SOURCE = OBSERVABILITY / "grafana" / "datasources" / "prometheus.yml"
DASHBOARDS = OBSERVABILITY / "grafana" / "dashboards" / "slowpool.yml"

MAKEFILE = (ROOT / "Makefile").read_text()
LOCKS = dict(re.findall(r"(\w+):([\w,]+)", re.findall(r"^LOCKS = .*$", MAKEFILE, re.MULTILINE)[0]))
"""Lock file -> its extras, as `make lock` writes it."""

EVERYTHING_ON: dict[str, object] = {
    "SERVER_NAMES": "shop.example, *.shop.example",
    "TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7, 2001:db8::/32",
    "CLIENT_RATE": 10,
    "CLIENT_CONNECTIONS": 20,
    "STREAM_PATHS": "/upload",
    "AFFINITY": "cookie:session",
}

VARIANTS: list[dict[str, object]] = [{}, {"AFFINITY": "address"}, {"AFFINITY": "", "CLIENT_CONNECTIONS": 0}]
"""Changes to EVERYTHING_ON that together fill in every template."""

LADDERS: list[dict[str, object]] = [
    {},
    {"SLOW_TIMEOUT_SECONDS": 10.5, "DRAIN_TIMEOUT_SECONDS": 20.9, "STOP_GRACE_SECONDS": 40},
    {"SLOW_TIMEOUT_SECONDS": 900, "DRAIN_TIMEOUT_SECONDS": 903, "STOP_GRACE_SECONDS": 914},
]


def test_no_configuration_file_is_left_unchecked() -> None:
    kept_apart = {"tests"}  # and what begins with a dot
    found = {
        file.relative_to(ROOT)
        for pattern in ("*.conf", "*.y*ml", "*.toml", "*.ini", "*.cfg", "Dockerfile*")
        for folder in sorted(ROOT.iterdir())
        if folder.name not in kept_apart and not folder.name.startswith(".")
        for file in ([folder] if folder.match(pattern) else folder.rglob(pattern))
    }
    checked = {
        COMPOSE,
        *(ROOT / "deploy" / "compose").glob("*.yml"),
        ROOT / "pyproject.toml",
        *DOCKERFILES,
        *SUPERVISOR_FILES,
        *NGINX_FILES,
    }
    checked |= {
        OBSERVABILITY / name for name in ("prometheus.yml", "alerts.yml")
    }  # tests/deploy/test_observability.py
    checked |= {DATA_SOURCE, DASHBOARDS}
    checked |= {*(ROOT / "deploy" / "kubernetes").rglob("*.yaml")}  # tests/deploy/test_kubernetes.py
    checked |= {*(ROOT / "deploy" / "swarm").glob("*.yml")}  # tests/deploy/test_stack_file.py
    assert found == {file.relative_to(ROOT) for file in checked}


@pytest.mark.parametrize("file", SUPERVISOR_FILES, ids=lambda file: file.name)
def test_a_supervisor_file_has_only_keys_that_supervisor_knows(file: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    parser.read_string(file.read_text())
    assert parser.sections()
    for section in parser.sections():
        known = SUPERVISOR_KEYS[section.partition(":")[0]]
        assert set(parser[section]) <= set(known.split()), section


def test_nginx_is_checked_with_the_environment_that_supervisor_gives_it() -> None:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    parser.read(ROOT / "deploy" / "programs" / "nginx.conf")
    given = re.findall(r'(\w+)="([^"]*)"', parser["program:nginx"]["environment"])
    assert dict(given) == run.NGINX_ENVIRON


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ("fast", ["fast-8001", "fast-8002"]),
        ("slow", ["slow-8101", "slow-8102", "slow-8103"]),
        ("*", ["fast-8001", "fast-8002", "nginx", "slow-8101", "slow-8102", "slow-8103"]),
    ],
)
def test_supervisor_runs_the_instances_of_the_settings_and_the_watchdog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: str, expected: list[str]
) -> None:
    found = supervised(monkeypatch, tmp_path, programs, {"SLOW_PROCESSES": 3})
    assert sorted(found) == sorted([*expected, "watchdog"])
    for name, process in found.items():
        if name != "watchdog":
            assert process.autorestart is not False
            assert process.stopsignal
        if name.startswith(("fast-", "slow-")):
            pool, port = name.split("-")
            assert process.command.startswith(f"python -m slowpool serve --pool={pool} --port={port} ")
            replica = "" if programs == "*" else socket.gethostname()
            assert process.command.endswith(f" --replica={replica}")
            assert process.killasgroup
            assert not process.stopasgroup


def test_nginx_is_stopped_before_the_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = supervised(monkeypatch, tmp_path, "*", {})
    assert all(
        process.priority < found["nginx"].priority for name, process in found.items() if name != "nginx"
    )


@pytest.mark.parametrize("where", [DOCKER, LOCAL], ids=["docker", "local"])
def test_the_nginx_configuration_has_only_directives_and_parameters_that_are_known(
    tmp_path: Path, where: dict[str, str]
) -> None:
    done = render(tmp_path, render_environment(everything_on(tmp_path), where))
    assert (done.returncode, errors(done)) == (0, [])
    known = set(crossplane.analyzer.DIRECTIVES) | NEW_DIRECTIVES
    for directive in directives(tmp_path):
        if any(block.startswith(("map ", "geo ")) for block in directive.blocks):
            continue  # values, not directives
        assert directive.name in known, directive
        if directive.name == "server" and directive.arguments:
            parameters = {argument.partition("=")[0] for argument in directive.arguments[1:]}
            assert parameters <= SERVER_PARAMETERS, directive


def test_every_nginx_file_is_included_and_every_template_is_filled_in(tmp_path: Path) -> None:
    settings = everything_on(tmp_path)
    files = {file.relative_to(ROOT / "nginx") for file in NGINX_FILES}
    templates = {file for file in files if file.parts[0] == "templates"}
    text = ""
    for number, variant in enumerate(VARIANTS):
        folder = tmp_path / str(number)
        assert render(folder, render_environment({**settings, **variant})).returncode == 0
        included = {Path(file["file"]).relative_to(folder) for file in parse(folder)["config"]}
        filled = {file.relative_to(folder) for file in (folder / "rendered").glob("*.conf")}
        assert included == files - templates | filled
        text += "".join((folder / file).read_text() for file in filled)
    first_lines = {file.name: (ROOT / "nginx" / file).read_text().partition("\n")[0] for file in templates}
    unused = {name for name, line in first_lines.items() if line not in text}
    by_build = {"stub_status.conf", "no_stub_status.conf", "edge_counts.conf", "edge_counts_only.conf"}
    assert unused <= by_build | {"user.conf"}


@pytest.mark.parametrize("settings", LADDERS, ids=["default", "short", "long"])
def test_the_ladder_of_times_holds_over_all_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, object]
) -> None:
    ladder = Ladder.of(monkeypatch, tmp_path, settings)
    assert all(ladder.slow_timeout < timeout for timeout in ladder.slow_read_timeouts)
    assert ladder.fast_timeout == min(ladder.fast_read_timeouts)
    assert ladder.stream_drain <= ladder.drain_timeout
    assert ladder.slow_timeout + IDLE_SECONDS <= ladder.drain_timeout
    for stop_wait in ladder.stop_waits:
        assert ladder.drain_timeout < ladder.nginx_shutdown_timeout < stop_wait
        assert all(stop_wait < period for period in ladder.stop_grace_periods)


def test_by_default_one_client_can_fill_half_of_the_folder_of_bodies_and_no_more() -> None:
    (size,) = re.findall(r"^/tmp:size=(\d+)m,", compose()["services"]["nginx"]["tmpfs"][0])
    large, medium = 250_000, 20
    defaults = Config(_env_file=None)
    occupied = defaults.client_uploads * (defaults.max_body_bytes + medium * large)
    assert 0 < occupied <= int(size) * 2**20 / 2


def test_grafana_finds_prometheus_and_the_dashboard_finds_both() -> None:
    services = compose()["services"]
    (source,) = yaml.safe_load(DATA_SOURCE.read_text())["datasources"]
    dashboard = json.loads(DASHBOARDS.with_suffix(".json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert "./deploy/observability/grafana:/etc/grafana/provisioning:ro" in services["grafana"]["volumes"]
    (provider,) = yaml.safe_load(DASHBOARDS.read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"
    for service in ("prometheus", "grafana"):
        assert services[service]["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in services[service]["ports"])


def test_each_dependency_is_pinned_and_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name, version in requirements():
        if name.startswith("slowpool["):
            continue
        line = next(line for line in text.splitlines() if line.strip().startswith(f'"{name}'))
        assert re.search(r'",\s+# \w', line), line
        assert version or name.startswith("types-") or name == "crossplane", line


def test_make_lock_writes_every_lock_file() -> None:
    assert LOCKS.keys() == {file.stem for file in (ROOT / "deploy" / "requirements").glob("*.lock")}


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_files_have_what_pyproject_asks_for(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    extras = LOCKS[lock].split(",")
    while extras:
        for requirement in project["optional-dependencies"][extras.pop()]:
            if match := re.fullmatch(r"slowpool\[(.+)\]", requirement):
                extras += match[1].split(",")
            else:
                wanted.append(requirement)
    text = (ROOT / "deploy" / "requirements" / f"{lock}.lock").read_text()
    locked = re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    for requirement in wanted:
        name, _, version = requirement.partition("==")
        assert (name, version) in locked if version else name in dict(locked), requirement


def test_the_image_finds_the_package_whatever_pythonpath_is(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert not re.search("^ENV .*PYTHONPATH", text, re.MULTILINE)
    venv.create(tmp_path, with_pip=False)
    (script,) = re.findall('python -c "([^"]+)"', text)
    subprocess.run([tmp_path / "bin" / "python", "-c", script], check=True, timeout=60)
    (file,) = tmp_path.glob("lib/python*/site-packages/slowpool.pth")
    assert file.read_text() == "/srv/app"


@pytest.mark.parametrize("beside", [True, False], ids=["beside the link", "in PATH"])
def test_the_command_runs_the_python_beside_it_or_else_the_one_in_path(tmp_path: Path, beside: bool) -> None:
    for folder, name in (("bin", "python"), ("path", "python3")):
        (tmp_path / folder).mkdir()
        if beside or folder == "path":
            (tmp_path / folder / name).write_text(f'#!/bin/sh\necho {folder} "$@"\n')
            (tmp_path / folder / name).chmod(0o755)
    (tmp_path / "bin" / "slowpool").symlink_to(ROOT / "deploy" / "slowpool")
    done = subprocess.run(
        [tmp_path / "bin" / "slowpool", "status"],
        env={"PATH": f"{tmp_path / 'path'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == f"{'bin' if beside else 'path'} -m slowpool status\n"


@pytest.mark.parametrize("file", ["deploy/Dockerfile", "nginx/Dockerfile"])
def test_hadolint_has_nothing_to_say(file: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


DOCKERFILES = [ROOT / "deploy" / "Dockerfile", ROOT / "nginx" / "Dockerfile"]
NGINX_FILES = list((ROOT / "nginx").rglob("*.conf"))


@dataclass(frozen=True)
class Ladder:
    """The ladder of times in seconds, as the programs get them."""

    slow_timeout: float
    fast_timeout: float
    stream_drain: float
    drain_timeout: float
    slow_read_timeouts: list[float]
    fast_read_timeouts: list[float]
    nginx_shutdown_timeout: float
    stop_waits: list[int]
    stop_grace_periods: list[float]

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch, folder: Path, settings: dict[str, object]) -> "Ladder":
        env = render_environment(settings, DOCKER)
        nginx = folder / "nginx"
        assert render(nginx, env).returncode == 0
        processes = supervised(monkeypatch, folder, "*", settings)
        services = compose()["services"].values()
        config = Config.load()
        return cls(
            config.slow_timeout_seconds,
            config.fast_timeout_seconds,
            config.stream_drain_seconds,
            config.drain_timeout_seconds,
            read_timeouts(directives(nginx), "slow"),
            read_timeouts(directives(nginx), "fast"),
            seconds(one(directives(nginx), "worker_shutdown_timeout")),
            [process.stopwaitsecs for name, process in processes.items() if name != "watchdog"],
            [seconds(expand(service["stop_grace_period"], env)) for service in services],
        )


def supervised(
    monkeypatch: pytest.MonkeyPatch, folder: Path, programs: str, settings: dict[str, object]
) -> dict[str, Any]:
    """Process name -> its configuration, as supervisor reads its files."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    config = Config.load()
    env = run._environ(config, folder / "run", programs=programs, address="127.0.0.1")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    options = ServerOptions()
    options.realize(["-c", str(ROOT / "deploy" / "supervisord.conf")])
    groups = options.process_group_configs
    return {process.name: process for group in groups for process in group.process_configs}


def read_timeouts(found: list[Directive], pool: str) -> list[float]:
    """The ``proxy_read_timeout`` of every location that passes to a pool."""
    passing = {
        directive.blocks
        for directive in found
        if directive.name == "proxy_pass"
        and re.fullmatch(rf"http://{pool}(_again)?\$request_uri", directive.arguments[0])
    }
    timeouts = {
        directive.blocks: directive.arguments[0]
        for directive in found
        if directive.name == "proxy_read_timeout" and directive.blocks in passing
    }
    assert passing
    assert timeouts.keys() == passing
    return [seconds(timeout) for timeout in timeouts.values()]


def everything_on(folder: Path) -> dict[str, object]:
    """Settings that turn on every part of nginx/render; creates their files in the folder."""
    make_certificate(folder / "certificate", folder / "key")
    (folder / "password").write_text("secret")
    files = {"TLS_CERTIFICATE": "certificate", "TLS_KEY": "key", "ADMIN_PASSWORD_FILE": "password"}
    return {**EVERYTHING_ON, **{name: folder / file for name, file in files.items()}}


def one(found: list[Directive], name: str) -> str:
    """The argument of a directive that occurs once."""
    ((argument,),) = [directive.arguments for directive in found if directive.name == name]
    return argument


def requirements() -> list[tuple[str, str]]:
    """Name and version of each dependency in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    parts = [requirement.partition("==") for group in groups for requirement in group]
    return [(name, version) for name, _, version in parts if name != "slowpool[local]"]
