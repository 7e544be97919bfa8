"""docker-compose.yml: keys, settings, ports, limits, and the defaults that it repeats."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.generate import NGINX, ON_SEVERAL_MACHINES, default
from deploy.supervise import replace_containers
from slowpool.config import DEFAULT_PROJECT, Config
from tests.support.basics import DEFAULTS, ROOT
from tests.support.compose_file import COMPOSE, VARIABLE, compose
from tests.support.engine import needs_compose

PROJECT = "SLOWPOOL_PROJECT"
"""The name of the project, for the commands on the status page."""

TLS = {"TLS_CERTIFICATE", "TLS_KEY"}

WITH_DEFAULTS = [
    COMPOSE,
    ROOT / "deploy" / "compose" / "ports-tls.yml",
    ROOT / "deploy" / "swarm" / "stack.yml",
    ROOT / "deploy" / "swarm" / "tls.yml",
]


@needs_compose
def test_docker_compose_knows_every_key_of_the_compose_file() -> None:
    done = compose_config(COMPOSE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@needs_compose
def test_docker_compose_refuses_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_grace_perid"))
    done = compose_config(file)
    assert done.returncode != 0
    assert "stop_grace_perid" in done.stderr


def test_the_instances_get_every_setting_but_those_that_only_nginx_reads() -> None:
    parsed = compose()
    of_nginx = NGINX - parsed["x-settings"].keys()
    for pool in ("fast", "slow"):
        passed = parsed["services"][pool]["environment"]
        assert passed.keys() == {*DEFAULTS, PROJECT}
        assert passed[PROJECT] == "${COMPOSE_PROJECT_NAME:-slowpool}"
        # Whatever .env has; the page of the demo names the admin port.
        assert {name for name, value in passed.items() if value == ""} == of_nginx - {"ADMIN_PORT"}
        assert (passed["FAST_HOST"], passed["SLOW_HOST"]) == ("fast", "slow")


@pytest.mark.parametrize(
    "file", [COMPOSE, ROOT / "deploy" / "swarm" / "stack.yml"], ids=lambda file: file.name
)
def test_the_log_of_every_service_is_bounded_and_holds_up_nothing(file: Path) -> None:
    for service in yaml.safe_load(file.read_text())["services"].values():
        assert service["logging"]["options"]["mode"] == "non-blocking"
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


def test_nginx_gets_what_it_renders_from() -> None:
    passed = compose()["services"]["nginx"]["environment"]
    assert passed.keys() == NGINX | {"PUBLIC_HTTPS_PORT", "ADMIN_ADDRESS", "RESOLVER"}
    of_the_container = {
        "HTTPS_PORT": 8443,
        "HTTP_PORT": 8080,
        "ADMIN_PORT": 8081,
        "ADMIN_ADDRESS": "0.0.0.0",
        "FAST_HOST": "fast",
        "SLOW_HOST": "slow",
    }
    assert of_the_container.items() <= passed.items()
    mounted = {
        "TLS_CERTIFICATE": "tls_certificate",
        "TLS_KEY": "tls_key",
        "ADMIN_PASSWORD_FILE": "admin_password",
    }
    for name, secret in mounted.items():
        assert passed[name] == f"${{{name}:+/run/secrets/{secret}}}"
        assert compose()["secrets"][secret] == {"file": f"${{{name}:-/dev/null}}"}


@pytest.mark.parametrize("file", WITH_DEFAULTS, ids=lambda file: file.name)
def test_a_default_that_is_repeated_is_that_of_the_setting(file: Path) -> None:
    repeated = {
        (name, value)
        for name, value in VARIABLE.findall(file.read_text())
        if name in DEFAULTS and value not in ("", "/dev/null")
    }
    assert repeated
    others = ON_SEVERAL_MACHINES if file.parent.name == "swarm" else {}
    assert repeated == {(name, others.get(name, default(name.lower()))) for name, _ in repeated}


def test_a_setting_is_passed_on_under_its_own_name() -> None:
    for service in compose()["services"].values():
        environment = service.get("environment", {})
        for name in environment.keys() & DEFAULTS.keys():
            if match := VARIABLE.fullmatch(str(environment[name])):
                assert match[1] == name


@needs_compose
@pytest.mark.usefixtures("nothing_set")
def test_compose_passes_on_a_setting_that_is_set_and_omits_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLOW_QUEUE", "3")
    (tmp_path / ".env").write_text("LOG_LEVEL=debug\nHTTP_PORT=127.0.0.1:80\n")
    done = compose_config(COMPOSE, f"--env-file={tmp_path / '.env'}", "--format=json")
    assert done.returncode == 0, done.stderr
    passed = json.loads(done.stdout)["services"]["fast"]["environment"]
    names = ("SLOW_QUEUE", "LOG_LEVEL", "HTTP_PORT", "SLOW_WORKERS")
    assert [passed[name] for name in names] == ["3", "debug", "", None]


@needs_compose
@pytest.mark.usefixtures("nothing_set")
def test_an_instance_gets_every_variable_of_env_but_those_that_are_settings_of_nginx(tmp_path: Path) -> None:
    names = ("docker-compose.yml", "deploy/compose/ports.yml")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    settings = {name.upper(): default(name) or "x" for name in Config.model_fields}
    own = {"SHOP_KEY": "a b#c", "SHOP_EMPTY": "", "shop_lower": "1", "REPLICA": "blue", "DEBUG": "yes"}
    lines = [f"{name}='{value}'" for name, value in {**settings, **own}.items() if name not in TLS]
    (tmp_path / ".env").write_text("\n".join(lines))
    done = compose_config(tmp_path / names[0], "--format=json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    passed = json.loads(done.stdout)["services"]["fast"]["environment"]
    of_nginx = NGINX - compose()["x-settings"].keys()
    hosts = {"FAST_HOST", "SLOW_HOST"}
    expected = {name: value for name, value in {**settings, **own}.items() if name not in of_nginx | hosts}
    assert expected.items() <= passed.items()


@needs_compose
@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("options", "name"), [((), DEFAULT_PROJECT), (("--project-name=shop",), "shop")], ids=["default", "-p"]
)
def test_the_instances_know_the_name_of_their_project(options: tuple[str, ...], name: str) -> None:
    done = compose_config(COMPOSE, *options, "--format=json")
    assert done.returncode == 0, done.stderr
    for pool in ("fast", "slow"):
        assert json.loads(done.stdout)["services"][pool]["environment"][PROJECT] == name


def test_compose_publishes_the_ports_of_the_settings_and_the_admin_port_on_loopback_only() -> None:
    services = compose()["services"]
    assert services["nginx"]["ports"] == [
        "${HTTP_PORT:-8080}:8080",
        "127.0.0.1:${ADMIN_PORT:-8081}:8081",
    ]
    assert (
        services["fast"]["environment"]["ADMIN_PORT"] == "${ADMIN_PORT:-8081}"
    )  # the demo's page has a link
    assert not any("ports" in services[pool] for pool in ("fast", "slow"))


@needs_compose
@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("certificate", "published"), [("", {"8080", "8081"}), ("/certificate.pem", {"8080", "8081", "9443"})]
)
def test_compose_publishes_the_port_for_tls_only_with_a_certificate(
    monkeypatch: pytest.MonkeyPatch, certificate: str, published: set[str]
) -> None:
    monkeypatch.setenv("TLS_CERTIFICATE", certificate)
    monkeypatch.setenv("HTTPS_PORT", "9443")
    done = compose_config(COMPOSE, "--format=json")
    assert done.returncode == 0, done.stderr
    ports = json.loads(done.stdout)["services"]["nginx"]["ports"]
    assert {port.get("published") for port in ports} == published


def test_the_settings_that_a_roll_compares_are_those_that_nginx_and_the_instances_share() -> None:
    shared = compose()["x-settings"].keys() - {
        "LOG_FORMAT",
        "SERVER_NAMES",
        "MAX_BODY_BYTES",
    }
    assert shared == {*replace_containers.UPSTREAMS, *replace_containers.TIMEOUTS}


def test_every_container_is_hardened_and_limited() -> None:
    for service in compose()["services"].values():
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["init"] is True
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "cap_add" not in service
        assert "privileged" not in service


def test_the_replicas_of_the_slow_pool_share_a_volume_with_accepted_jobs_and_nobody_else_has_it() -> None:
    mounts = {name: compose()["services"][name].get("volumes", []) for name in ("nginx", "fast", "slow")}
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (folder,) = re.findall("^ENV SLOWPOOL_STATE_DIR=(.+)$", text, re.MULTILINE)
    assert mounts == {"nginx": [], "fast": [], "slow": [f"jobs:{folder}"]}
    assert compose()["volumes"]["jobs"] == {}


def test_the_slow_pool_yields_the_cpu_to_all_others() -> None:
    shares = {name: service.get("cpu_shares") for name, service in compose()["services"].items()}
    assert {name: value for name, value in shares.items() if value is not None} == {"slow": 2}


def test_each_image_is_a_variable_with_one_default() -> None:
    images = dict(re.findall(r"\$\{(\w+_IMAGE):-([^}]+)\}", COMPOSE.read_text()))
    for file in (ROOT / "deploy" / "Dockerfile", ROOT / "nginx" / "Dockerfile"):
        bases = re.findall(r"^ARG (\w+)=(\S+)\nFROM \$\{\1\}$", file.read_text(), re.MULTILINE)
        assert len(bases) == file.read_text().count("FROM ")
        assert dict(bases).items() <= images.items()
    for service in compose()["services"].values():
        used = service["build"]["args"] if "build" in service else {"": service["image"]}
        for argument, image in used.items():
            match = VARIABLE.fullmatch(image)
            assert match, image
            assert argument in ("", match[1])


def compose_config(file: Path, *options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Have docker compose read a file of a project in this folder."""
    before = [option for option in options if option.startswith(("--env-file", "--project-name"))]
    after = [option for option in options if option not in before] or ["--quiet"]
    command = [
        "docker",
        "compose",
        f"--file={file}",
        f"--project-directory={folder}",
        *before,
        "config",
        *after,
    ]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=30)
