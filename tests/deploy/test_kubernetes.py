"""The objects that kubectl renders from deploy/kubernetes are valid and agree with Compose and the settings.

No cluster is used: the tests read the objects that a cluster would get.
"""

import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.supervise.watchdog import FAST_HUNG_SECONDS, SLOW_HUNG_MARGIN_SECONDS
from slowpool.config import Config, Pool
from tests.support.basics import DEFAULTS, ROOT
from tests.support.certificate import needs_openssl
from tests.support.compose_file import compose, expand
from tests.support.kubernetes import (
    ALTERNATIVE,
    DEV,
    PODS,
    PRODUCTION,
    VARIANTS,
    Json,
    Pod,
    config_of,
    files_of,
    kubectl_kustomize,
    named,
    one_of,
    secret_file,
    selects,
    validate,
)
from tests.support.nginx import directives, errors, render, render_environment, seconds

VERSIONS = ["1.30", "1.37"]
"""The oldest with the preStop sleep enabled by default, and the newest that can be validated."""

pytestmark = [pytest.mark.usefixtures("nothing_set"), needs_openssl]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_pod = pytest.mark.parametrize("name", PODS)


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """Cache the schemas: they are 2 MB and would be read for each object."""
    from kubernetes_validate import utils  # here, since it takes a second

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@every_variant
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_and_has_no_key_that_kubernetes_does_not_know(
    rendered: dict[str, list[Json]], variant: str, version: str
) -> None:
    assert rendered[variant]
    for one in rendered[variant]:
        validate(one, version)


@pytest.mark.parametrize(
    ("variant", "kind", "path"),
    [
        (DEV, "Deployment", "spec.template.spec.containers.0.securityContext"),
        (DEV, "Deployment", "spec.template.spec.topologySpreadConstraints.0"),
        (DEV, "NetworkPolicy", "spec.podSelector"),
        (DEV, "StatefulSet", "spec.template.spec.containers.0"),
        (DEV, "PersistentVolumeClaim", "spec.resources"),
        (PRODUCTION, "HorizontalPodAutoscaler", "spec.metrics.0"),
        (ALTERNATIVE, "ScaledObject", "spec.triggers.0"),
        (ALTERNATIVE, "HTTPRoute", "spec.rules.0"),
    ],
)
def test_a_key_that_kubernetes_does_not_know_is_refused(
    rendered: dict[str, list[Json]], variant: str, kind: str, path: str
) -> None:
    broken = json.loads(json.dumps(next(one for one in rendered[variant] if one["kind"] == kind)))
    functools.reduce(lambda value, key: value[int(key) if key.isdigit() else key], path.split("."), broken)[
        "nothingOfThisName"
    ] = True
    with pytest.raises(ValueError, match="nothingOfThisName"):
        validate(broken, VERSIONS[-1])


def test_every_file_is_part_of_a_variant(tree: Path) -> None:
    overlays = [tree / "overlays" / name for name in ("dev", "production", "alternative")]
    used = {file for overlay in overlays for file in files_of(overlay)}
    beside = {tree / "prometheus.yaml", tree / "prometheus-adapter.yaml"}
    there = {file for file in tree.rglob("*") if file.is_file()}
    assert used | beside == there


def test_production_without_its_secrets_is_an_error_that_names_the_file(tree: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "kubernetes")
    (copy / "overlays" / "production" / "secrets" / "tls.key").unlink()
    done = kubectl_kustomize(copy / "overlays" / "production")
    assert done.returncode != 0
    assert "secrets/tls.key" in done.stderr


@every_variant
def test_every_setting_has_its_default_unless_the_overlay_changes_it(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    of_the_pods = {name for name in DEFAULTS if name.endswith(("_HOST", "_FILE"))} | {
        "TLS_CERTIFICATE",
        "TLS_KEY",
    }
    changed = {DEV: {"LOG_FORMAT", "DEBUG"}}.get(variant, {"SERVER_NAMES", "SLOW_WORKERS"})
    settings = one_of(rendered[variant], "ConfigMap")["data"]
    assert settings.keys() == DEFAULTS.keys() - of_the_pods
    config = config_of(settings).model_dump()
    fields = Config.model_fields
    differing = {name for name in settings if config[name.lower()] != fields[name.lower()].default}
    assert differing == changed | {"JOBS_URL"}


@every_variant
@every_pod
def test_the_ladder_of_times_holds(rendered: dict[str, list[Json]], variant: str, name: str) -> None:
    pod = Pod.of(rendered[variant], name)
    config = config_of(pod.environment)
    stops_in = (
        pod.spec["terminationGracePeriodSeconds"] - pod.main["lifecycle"]["preStop"]["sleep"]["seconds"]
    )
    assert stops_in == config.stop_grace_seconds  # which Config holds against the rungs below it

    hung_seconds = {
        "nginx": 0,  # it answers at once, and curl has its own limit
        "fast": FAST_HUNG_SECONDS,
        "slow": config.slow_timeout_seconds + SLOW_HUNG_MARGIN_SECONDS,
    }
    alive = pod.main["livenessProbe"]
    assert alive["timeoutSeconds"] > hung_seconds[name]
    assert (alive["failureThreshold"] - 1) * alive["periodSeconds"] > config.stop_wait_seconds
    start = pod.main["startupProbe"]
    assert start["failureThreshold"] * start["periodSeconds"] >= 60


@every_variant
@every_pod
def test_a_pod_is_checked_and_limited_like_its_container_of_compose(
    rendered: dict[str, list[Json]], variant: str, name: str
) -> None:
    pod, service = Pod.of(rendered[variant], name), compose()["services"][name]
    assert pod.main.get("args") == service.get("command")
    assert "command" not in pod.main
    for probe in ("startupProbe", "readinessProbe"):
        assert pod.run(pod.main[probe]["exec"]["command"]) == [
            re.sub(r"\$\{(\w+):-\w+\}", lambda match: pod.environment[match[1]], word)
            for word in service["healthcheck"]["test"][1:]
        ]
    ready = pod.main["readinessProbe"]
    assert f"{ready['periodSeconds']}s" == service["healthcheck"]["interval"]
    timeout = service["healthcheck"]["timeout"].replace("${SLOW_TIMEOUT_SECONDS:-60}", "60")
    assert timeout == f"{ready['timeoutSeconds']}s"
    assert ready["timeoutSeconds"] >= config_of(pod.environment).slow_timeout_seconds or name != "slow"

    memory = {"512m": "512Mi", "1g": "1Gi", "2g": "2Gi"}
    assert pod.main["resources"]["limits"] == {"memory": memory[service["mem_limit"]]}
    (tmp,) = service["tmpfs"]
    assert tmp.startswith("/tmp:size=256m")
    assert {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}} in pod.spec["volumes"]
    assert {"name": "tmp", "mountPath": "/tmp"} in pod.main["volumeMounts"]


@every_variant
def test_the_slow_pool_has_the_fewest_shares_of_cpu(rendered: dict[str, list[Json]], variant: str) -> None:
    shares = {name: Pod.of(rendered[variant], name).cpu_shares for name in PODS}
    services = compose()["services"]
    assert shares["slow"] == services["slow"]["cpu_shares"]
    if variant == DEV:
        assert min(shares["fast"], shares["nginx"]) >= 50 * shares["slow"]
    else:
        docker_default = 1024
        assert not {"cpu_shares"} & {*services["fast"], *services["nginx"]}
        assert shares["fast"] == shares["nginx"] == docker_default


@every_variant
@every_pod
def test_a_pod_meets_the_restricted_standard_and_can_write_only_to_tmp(
    rendered: dict[str, list[Json]], variant: str, name: str
) -> None:
    pod, service = Pod.of(rendered[variant], name), compose()["services"][name]
    user = pod.spec["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == service["user"]
    assert user["runAsNonRoot"] is True
    assert user["fsGroup"] == user["runAsGroup"]
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    assert pod.spec["shareProcessNamespace"] is True  # as "init: true" in compose
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.spec.keys()
    assert all(volume.keys() <= {"name", "emptyDir", "secret"} for volume in pod.spec["volumes"])
    writable = [mount["mountPath"] for mount in pod.main["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    assert not any("hostPort" in port for port in pod.main["ports"])
    namespace = one_of(rendered[variant], "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace", namespace["metadata"]["name"]) for one in rendered[variant]} == {
        namespace["metadata"]["name"]
    }


@every_variant
def test_nginx_takes_its_environment_and_finds_the_instances_by_whole_names(
    rendered: dict[str, list[Json]], tmp_path: Path, tree: Path, variant: str
) -> None:
    pod = Pod.of(rendered[variant], "nginx")
    settings = dict(pod.environment)
    assert settings["RESOLVER"] == "kube-dns.kube-system.svc.cluster.local"
    settings["RESOLVER"] = "localhost"  # a name that this machine can look up when nginx starts
    files = {
        name: path
        for name, path in settings.items()
        if name.endswith("_FILE") or name in ("TLS_CERTIFICATE", "TLS_KEY")
    }
    for name, path in files.items():
        settings[name] = str(secret_file(rendered[variant], pod, tree, path))
    expected = {
        DEV: set(),
        PRODUCTION: {"TLS_CERTIFICATE", "TLS_KEY", "ADMIN_PASSWORD_FILE"},
        ALTERNATIVE: {"ADMIN_PASSWORD_FILE"},
    }
    assert files.keys() == expected[variant]

    done = render(tmp_path / "nginx", render_environment({}, settings))
    assert (done.returncode, errors(done)) == (0, [])
    found = directives(tmp_path / "nginx")
    servers = {
        (one.blocks[-1].removeprefix("upstream "), one.arguments[0])
        for one in found
        if one.name == "server" and one.arguments and "resolve" in one.arguments
    }
    namespace = one_of(rendered[variant], "Namespace")["metadata"]["name"]
    for pool in Pool.FAST, Pool.SLOW:
        host = f"{pool}.{namespace}.svc.cluster.local"
        ports = [port["containerPort"] for port in Pod.of(rendered[variant], pool).main["ports"]]
        assert {server for upstream, server in servers if upstream == pool} == {
            f"{host}:{port}" for port in ports
        }
    listens = {one.arguments[0] for one in found if one.name == "listen"}
    public = {str(port["containerPort"]) for port in pod.main["ports"]} - {"8081"}
    # kubectl port-forward comes out at the loopback address, the only one of the admin server.
    scraped = {"0.0.0.0:8081"} if variant == ALTERNATIVE else set()
    assert listens == public | {"127.0.0.1:8081"} | scraped
    (timeout,) = [one.arguments[0] for one in found if one.name == "worker_shutdown_timeout"]
    assert seconds(timeout) < config_of(pod.environment).stop_grace_seconds


@every_variant
@pytest.mark.parametrize("pool", [Pool.FAST, Pool.SLOW], ids=str)
def test_a_pool_has_a_headless_service_and_a_port_for_each_instance(
    rendered: dict[str, list[Json]], variant: str, pool: Pool
) -> None:
    pod = Pod.of(rendered[variant], pool)
    instances = config_of(pod.environment).instances(pool)
    ports = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
    assert ports == {f"{pool}-{number}": instance.port for number, instance in enumerate(instances)}
    assert pod.main["livenessProbe"]["httpGet"] == {"path": "/-/livez", "port": f"{pool}-0"}
    service = named(rendered[variant], "Service", pool)["spec"]
    assert service["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in service
    assert service["selector"].items() <= pod.labels.items()


@every_variant
def test_only_the_public_ports_of_nginx_are_in_a_service(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    service = named(rendered[variant], "Service", "nginx")["spec"]
    pod = Pod.of(rendered[variant], "nginx")
    assert service["selector"].items() <= pod.labels.items()
    ports = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
    published = {port["port"]: ports[port["targetPort"]] for port in service["ports"]}
    assert published == ({80: 8080, 443: 8443} if variant == PRODUCTION else {80: 8080})
    balanced = (service.get("type"), service.get("externalTrafficPolicy"))
    assert balanced == (("LoadBalancer", "Local") if variant == PRODUCTION else (None, None))
    assert {one["metadata"]["name"] for one in rendered[variant] if one["kind"] == "Service"} == {
        *PODS,
        "valkey",
    }
    for route in (one for one in rendered[variant] if one["kind"] == "HTTPRoute"):
        ((backend,),) = [rule["backendRefs"] for rule in route["spec"]["rules"]]
        assert backend == {"name": "nginx", "port": 80}


@every_variant
@every_pod
def test_every_selector_selects_the_pods_of_its_own_and_no_others(
    rendered: dict[str, list[Json]], variant: str, name: str
) -> None:
    for kind in ("Deployment", "PodDisruptionBudget"):
        selector = named(rendered[variant], kind, name)["spec"]["selector"]
        assert [pod for pod in PODS if selects(selector, Pod.of(rendered[variant], pod).labels)] == [name]
    for constraint in Pod.of(rendered[variant], name).spec["topologySpreadConstraints"]:
        assert selects(constraint["labelSelector"], Pod.of(rendered[variant], name).labels)


@every_variant
def test_accepted_jobs_are_kept_by_one_hardened_pod_on_a_volume_that_a_release_may_change(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    pod = Pod.of(rendered[variant], "valkey", "StatefulSet")
    slow = Pod.of(rendered[variant], "slow")
    (port,) = pod.main["ports"]
    assert slow.environment["JOBS_URL"] == f"valkey://valkey:{port['containerPort']}/0"
    service = named(rendered[variant], "Service", "valkey")["spec"]
    assert service["selector"].items() <= pod.labels.items()
    others = [Pod.of(rendered[variant], name).labels for name in PODS]
    assert not any(service["selector"].items() <= labels.items() for labels in others)

    stateful = named(rendered[variant], "StatefulSet", "valkey")["spec"]
    assert stateful.keys() == {"serviceName", "selector", "template"}  # one replica, and nothing immutable
    assert selects(stateful["selector"], pod.labels)
    of_stack = yaml.safe_load((ROOT / "deploy" / "swarm" / "stack.yml").read_text())["services"]["valkey"]
    assert pod.main["args"] == of_stack["command"]
    assert pod.main["image"] == expand(of_stack["image"], {})
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.main[probe]["exec"]["command"] == of_stack["healthcheck"]["test"][1:]

    assert pod.main["securityContext"] == slow.main["securityContext"]
    user = pod.spec["securityContext"]
    assert user == {**slow.spec["securityContext"], "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999}
    assert of_stack["user"] == f"{user['runAsUser']}:{user['runAsGroup']}"
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.main["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert pod.spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "valkey"}}]
    claim = named(rendered[variant], "PersistentVolumeClaim", "valkey")["spec"]
    stored = int(slow.environment["JOB_STORE_BYTES"])
    assert int(claim["resources"]["requests"]["storage"].removesuffix("Gi")) << 30 > 2 * stored


@every_variant
def test_each_object_has_the_recommended_labels(rendered: dict[str, list[Json]], variant: str) -> None:
    for one in rendered[variant]:
        assert one["metadata"]["labels"].keys() >= {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for name in PODS:
        labels = Pod.of(rendered[variant], name).labels
        assert {label.removeprefix("app.kubernetes.io/") for label in labels} == {
            "name", "instance", "version", "component", "part-of", "managed-by",
        }  # fmt: skip
        assert version
        assert labels["app.kubernetes.io/version"] == version[1]


@every_variant
@every_pod
def test_a_roll_takes_nothing_away_and_an_eviction_one_pod(
    rendered: dict[str, list[Json]], variant: str, name: str
) -> None:
    assert (
        named(rendered[variant], "Deployment", name)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]
        == 0
    )
    assert named(rendered[variant], "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1


@every_variant
def test_the_images_are_those_that_the_overlay_names(rendered: dict[str, list[Json]], variant: str) -> None:
    images = {name: Pod.of(rendered[variant], name).main["image"] for name in PODS}
    expected = {"nginx": "slowpool-nginx", "fast": "slowpool", "slow": "slowpool"}
    registry, tag = ("", "dev") if variant == DEV else ("registry.example/", "0.1.0")
    assert images == {name: f"{registry}{image}:{tag}" for name, image in expected.items()}


def test_the_text_names_only_what_is_there() -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    paths = set(re.findall(r"\bdeploy/kubernetes/[\w./-]*\w", text)) - {
        "deploy/kubernetes/overlays/production/secrets"  # made by who deploys it
    }
    assert len(paths) > 3
    assert not [path for path in paths if not (ROOT / path).exists()]
