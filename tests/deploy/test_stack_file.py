"""deploy/swarm/stack.yml agrees with docker-compose.yml and has what a swarm needs in addition."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import ON_SEVERAL_MACHINES
from slowpool.config import Config
from tests.support.basics import DEFAULTS, ROOT
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.compose_file import compose, expand
from tests.support.nginx import directives, errors, render, render_environment

FOLDER = ROOT / "deploy" / "swarm"
PINS = {"SLOWPOOL_IMAGE": "registry.example/slowpool:1", "SLOWPOOL_NGINX_IMAGE": "registry.example/nginx:1"}
SERVICES = ["nginx", "fast", "slow"]
POOLS = ["fast", "slow"]
BYTES = {"m": 1 << 20, "M": 1 << 20, "g": 1 << 30, "G": 1 << 30}

every_service = pytest.mark.parametrize("name", SERVICES)
every_pool = pytest.mark.parametrize("pool", POOLS)


def stack(file: str = "stack.yml") -> dict[str, Any]:
    """The content of a file, with its variables unexpanded."""
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / file).read_text())
    return parsed


def service(name: str) -> dict[str, Any]:
    """A service of the stack."""
    found: dict[str, Any] = stack()["services"][name]
    return found


def test_the_services_are_those_of_compose() -> None:
    of_compose = {name for name, one in compose()["services"].items() if "profiles" not in one}
    assert of_compose == set(SERVICES)
    assert stack()["services"].keys() == {*SERVICES, "valkey"}


@every_service
def test_a_service_is_the_same_as_that_of_compose(name: str) -> None:
    here, there = service(name), compose()["services"][name]
    for key in ("command", "user", "read_only", "cap_drop", "init", "stop_grace_period"):
        assert here.get(key) == there.get(key), key
    check = here["healthcheck"]
    assert {**check, "retries": None} == {**there["healthcheck"], "retries": None}
    limits = here["deploy"]["resources"]["limits"]
    assert in_bytes(limits["memory"]) == in_bytes(there["mem_limit"])
    assert limits["pids"] == there["pids_limit"]
    assert in_bytes(here["deploy"]["resources"]["reservations"]["memory"]) < in_bytes(limits["memory"])
    (tmp,) = here["volumes"]
    assert there["tmpfs"] == ["/tmp:size=256m,mode=1777"]
    assert tmp == {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 256 << 20}}


@every_service
def test_a_service_has_the_settings_that_compose_gives_it(name: str) -> None:
    here, there = service(name)["environment"], compose()["services"][name]["environment"]
    files = {"TLS_CERTIFICATE", "TLS_KEY", "ADMIN_PASSWORD_FILE"}  # of a secret, or there is none
    if name != "nginx":
        files.add("ADMIN_PORT")  # published nowhere here
    others = {"FAST_HOST": "tasks.fast", "SLOW_HOST": "tasks.slow"}  # each replica, not the service
    if "SLOWPOOL_PROJECT" in there:
        others["SLOWPOOL_PROJECT"] = '{{index .Service.Labels "com.docker.stack.namespace"}}'
    expected = {key: value for key, value in (there | others).items() if key not in files and value != ""}
    for setting in ON_SEVERAL_MACHINES.keys() & here.keys():
        expected[setting] = f"${{{setting}:-{ON_SEVERAL_MACHINES[setting]}}}"
    assert here == expected


@every_service
def test_a_replica_whose_instances_drain_one_after_the_other_is_not_taken_for_unhealthy(name: str) -> None:
    check, config = service(name)["healthcheck"], Config.model_construct()
    interval = int(check["interval"].removesuffix("s"))
    retries = int(expand(check["retries"], {}))
    instances = max(config.fast_processes, config.slow_processes)
    assert (retries - 1) * interval > instances * config.stop_wait_seconds
    assert expand(service(name)["stop_grace_period"], {}) == f"{config.stop_grace_seconds:g}s"


@every_service
def test_an_update_goes_one_by_one_and_back_when_it_fails(name: str) -> None:
    deploy = service(name)["deploy"]
    order = "stop-first" if name == "nginx" else "start-first"  # a port of a node is one's alone
    assert deploy["update_config"] == {
        "parallelism": 1,
        "order": order,
        "monitor": "30s",
        "failure_action": "rollback",
    }
    assert deploy["rollback_config"] == {**deploy["update_config"], "failure_action": "pause"}
    assert deploy["restart_policy"]["condition"] == "any"


@every_service
def test_a_name_has_the_address_of_every_replica(name: str) -> None:
    assert service(name)["deploy"]["endpoint_mode"] == "dnsrr"
    assert service(name)["networks"] == (["pools", "jobs"] if name == "slow" else ["pools"])
    assert stack()["networks"] == {name: {"driver": "overlay"} for name in ("pools", "jobs")}


def test_accepted_jobs_are_kept_by_one_hardened_replica_that_only_the_slow_pool_reaches() -> None:
    valkey = service("valkey")
    services = stack()["services"].items()
    assert [name for name, one in services if "jobs" in one["networks"]] == ["slow", "valkey"]
    assert valkey["networks"] == ["jobs"]
    assert ON_SEVERAL_MACHINES["JOBS_URL"] == "valkey://valkey:6379/0"
    assert "ports" not in valkey
    assert valkey["user"] == "999:999"  # that of the image, to whom /data belongs
    for key in ("read_only", "cap_drop", "init"):
        assert valkey[key] == service("slow")[key]
    assert valkey["volumes"] == [{"type": "volume", "source": "jobs", "target": "/data"}]
    assert stack()["volumes"] == {"jobs": {}}
    deploy = valkey["deploy"]
    assert not {"mode", "replicas"} & deploy.keys()
    # The node that has the volume.
    assert deploy["placement"] == {"constraints": ["node.labels.slowpool.jobs == true"]}
    assert deploy["update_config"]["order"] == "stop-first"
    options = dict(zip(valkey["command"][1::2], valkey["command"][2::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"], options["--dir"]) == ("yes", "always", "/data")
    memory = int(options["--maxmemory"].removesuffix("mb")) << 20
    limit = in_bytes(deploy["resources"]["limits"]["memory"])
    assert Config.model_construct().job_store_bytes < memory < limit


@every_pool
def test_a_pool_is_published_nowhere_and_may_run_on_any_node_that_is_not_excluded(pool: str) -> None:
    assert "ports" not in service(pool)
    assert service(pool)["deploy"]["placement"]["constraints"] == [f"node.labels.slowpool.{pool} != false"]
    assert service(pool)["deploy"]["replicas"] == f"${{{pool.upper()}_REPLICAS:-2}}"


def test_nginx_has_the_public_ports_of_each_node_with_the_label_and_no_other() -> None:
    nginx = service("nginx")
    assert nginx["deploy"]["mode"] == "global"
    assert nginx["deploy"]["placement"] == {"constraints": ["node.labels.slowpool.edge == true"]}
    (http,) = nginx["ports"]
    (https,) = stack("tls.yml")["services"]["nginx"]["ports"]
    for port, name, target in ((http, "HTTP_PORT", 8080), (https, "HTTPS_PORT", 8443)):
        assert port == {
            "target": target,
            "published": f"${{{name}:-{DEFAULTS[name]}}}",
            "protocol": "tcp",
            "mode": "host",
        }
        assert int(nginx["environment"][name]) == target


def test_an_image_that_is_not_named_is_an_error_that_names_its_variable() -> None:
    for name in SERVICES:
        variable = "SLOWPOOL_NGINX_IMAGE" if name == "nginx" else "SLOWPOOL_IMAGE"
        assert service(name)["image"].startswith(f"${{{variable}:?is the image of ")


@needs_openssl
def test_with_tls_nginx_takes_what_its_secrets_are(tmp_path: Path) -> None:
    tls = stack("tls.yml")
    secrets = {f"/run/secrets/{one['target']}": one for one in tls["services"]["nginx"]["secrets"]}
    settings = {**service("nginx")["environment"], **tls["services"]["nginx"]["environment"]}
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    make_certificate(certificate, key)
    for name, file in (("TLS_CERTIFICATE", certificate), ("TLS_KEY", key)):
        secret = secrets[settings[name]]
        assert f"{secret['uid']}:{secret['gid']}" == service("nginx")["user"]
        assert secret["mode"] == 0o400
        assert f"${{{name}:?" in tls["secrets"][secret["source"]]["file"]
        assert "${TLS_VERSION" in tls["secrets"][secret["source"]]["name"]
        settings[name] = str(file)
    env = {name: expand(str(value), {}) for name, value in settings.items() if value is not None}
    done = render(tmp_path / "nginx", {**render_environment(), **env})
    assert (done.returncode, errors(done)) == (0, [])
    listens = {one.arguments[0] for one in directives(tmp_path / "nginx") if one.name == "listen"}
    assert listens == {"8080", "8443", "0.0.0.0:8081"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "there is no file FILE"),
        ("HTTP_PORT\n", 'FILE: "HTTP_PORT" is not NAME=value'),
        ("# a comment\n\nsudo=1; rm x\nTLS_CERTIFICATE=/none\n", "TLS_CERTIFICATE=/none is not a file"),
        ("TLS_CERTIFICATE=/dev/null", "TLS_KEY= is not a file"),
    ],
)
def test_a_file_that_cannot_be_deployed_from_is_an_error_that_says_why(
    tmp_path: Path, text: str | None, error: str
) -> None:
    file = tmp_path / "swarm.env"
    if text is not None:
        file.write_text(text)
    done = subprocess.run([FOLDER / "deploy", file], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"deploy/swarm/deploy: {error.replace('FILE', str(file))}")
    assert done.stderr.count("\n") == 1


def stack_config(*files: Path) -> subprocess.CompletedProcess[str]:
    """Have docker read the files as before a deployment; no engine is used."""
    arguments = [f"--compose-file={file}" for file in files]
    env = {**os.environ, **PINS, "TLS_VERSION": "1", "TLS_CERTIFICATE": "/dev/null", "TLS_KEY": "/dev/null"}
    command = ["docker", "stack", "config", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


needs_stack_config = pytest.mark.skipif(
    shutil.which("docker") is None or stack_config(FOLDER / "stack.yml").stderr.startswith("unknown flag"),
    reason="there is no docker here that has `docker stack config`",
)


@needs_stack_config
def test_docker_knows_every_key_of_the_stack_files() -> None:
    done = stack_config(FOLDER / "stack.yml", FOLDER / "tls.yml")
    assert (done.returncode, done.stderr) == (0, "")
    parsed = yaml.safe_load(done.stdout)
    assert parsed["services"].keys() == {*SERVICES, "valkey"}
    assert {one["target"] for one in parsed["services"]["nginx"]["ports"]} == {8080, 8443}


@needs_stack_config
def test_docker_refuses_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "stack.yml"
    file.write_text((FOLDER / "stack.yml").read_text().replace("endpoint_mode", "endpoint_mod"))
    done = stack_config(file)
    assert done.returncode != 0
    assert "endpoint_mod" in done.stderr


def test_the_text_names_only_what_is_there() -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    assert set(re.findall(r"\bdeploy/swarm/[\w./-]*\w", text)) == {
        f"deploy/swarm/{file.name}" for file in FOLDER.iterdir()
    }


def in_bytes(text: str) -> int:
    """Parse a size such as ``512m``."""
    return int(text[:-1]) * BYTES[text[-1]]
