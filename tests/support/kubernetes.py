"""deploy/kubernetes as kubectl renders it; no cluster is asked."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowpool.config import Config
from tests.support.basics import DEFAULTS, ROOT
from tests.support.certificate import make_certificate

FOLDER = ROOT / "deploy" / "kubernetes"

DEV, PRODUCTION, ALTERNATIVE = "dev", "production", "production with a gateway, KEDA and metrics of nginx"
VARIANTS = [DEV, PRODUCTION, ALTERNATIVE]
PODS = ["nginx", "fast", "slow"]
INSTANCES = [("fast", 8001), ("fast", 8002), ("slow", 8101), ("slow", 8102)]

KUBECTL = Path(sys.executable).parent / "kubectl"

CUSTOM = {
    schema["properties"]["apiVersion"]["const"]: schema
    for schema in (
        json.loads(file.read_text()) for file in (ROOT / "tests" / "deploy" / "crds").glob("*.json")
    )
}
"""The schema of each custom resource, by its version of the API."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """The pods of one Deployment or StatefulSet."""

    labels: Json
    spec: Json
    main: Json
    environment: dict[str, str]

    @classmethod
    def of(cls, rendered: list[Json], name: str, kind: str = "Deployment") -> "Pod":
        deployment = named(rendered, kind, name)
        template = deployment["spec"]["template"]
        (main,) = template["spec"]["containers"]
        # As the kubelet does: maps first, then each variable, which may refer to those before it.
        # https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
        environment: dict[str, str] = {}
        for source in main.get("envFrom", []):
            environment |= named(rendered, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in main.get("env", []):
            if "valueFrom" in variable:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
                environment[variable["name"]] = deployment["metadata"]["namespace"]
            else:
                expanded = re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], variable["value"])
                environment[variable["name"]] = expanded
        return cls(template["metadata"]["labels"], template["spec"], main, environment)

    @property
    def cpu_shares(self) -> int:
        """The CPU shares that the kubelet sets for a CPU request: 1024 for a whole one, 2 at least."""
        text = str(self.main["resources"]["requests"]["cpu"])
        milli = int(text.removesuffix("m")) if text.endswith("m") else 1000 * int(text)
        return max(2, milli * 1024 // 1000)

    def run(self, command: list[str]) -> list[str]:
        """The words that a command of a probe becomes in the container."""
        if command[:2] != ["sh", "-c"]:
            return command
        script = f'set -- {command[2].removeprefix("exec ")}; printf "%s\\n" "$@"'
        done = subprocess.run(
            ["sh", "-c", script], env=self.environment, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.splitlines()


@dataclass(frozen=True)
class Network:
    """Who may talk to whom, by the NetworkPolicies: a peer is its namespace and its labels.

    https://kubernetes.io/docs/concepts/services-networking/network-policies/
    """

    rendered: list[Json]
    namespace: str

    @classmethod
    def of(cls, rendered: list[Json]) -> "Network":
        return cls(rendered, one_of(rendered, "Namespace")["metadata"]["name"])

    def pod(self, name: str, kind: str = "Deployment") -> tuple[str, Json]:
        return self.namespace, Pod.of(self.rendered, name, kind).labels

    def lets_in(self, pod: tuple[str, Json], source: tuple[str, Json], port: int) -> bool:
        return self._allows("Ingress", pod, source, port, "TCP")

    def lets_out(
        self, pod: tuple[str, Json], target: tuple[str, Json], port: int, protocol: str = "TCP"
    ) -> bool:
        return self._allows("Egress", pod, target, port, protocol)

    def _allows(
        self, way: str, pod: tuple[str, Json], peer: tuple[str, Json], port: int, protocol: str
    ) -> bool:
        policies = [
            one["spec"]
            for one in self.rendered
            if one["kind"] == "NetworkPolicy"
            and way in one["spec"]["policyTypes"]
            and selects(one["spec"]["podSelector"], pod[1])
        ]
        if not policies:
            return True
        rules = [rule for policy in policies for rule in policy.get(way.lower(), [])]
        side = {"Ingress": "from", "Egress": "to"}[way]
        return any(
            ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"])
            and (side not in rule or any(self._is(one, peer) for one in rule[side]))
            for rule in rules
        )

    def _is(self, one: Json, peer: tuple[str, Json]) -> bool:
        if "ipBlock" in one:
            return False
        namespace, labels = peer
        if "namespaceSelector" not in one:
            in_namespace = namespace == self.namespace
        else:
            in_namespace = selects(one["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
        return in_namespace and selects(one.get("podSelector", {}), labels)


def copy_with_secrets(parent: Path) -> Path:
    """Copy the folder, add the files that an operator adds, and the overlay "alternative"."""
    copy = parent / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("secrets"))
    production = copy / "overlays" / "production"
    secrets = production / "secrets"
    secrets.mkdir()
    make_certificate(secrets / "tls.crt", secrets / "tls.key")
    (secrets / "password").write_text("correct horse\n")
    shutil.copytree(production, copy / "overlays" / "alternative")
    file = copy / "overlays" / "alternative" / "kustomization.yaml"
    text = file.read_text()
    for one, other in (("load-balancer", "gateway"), ("slow-hpa ", "slow-keda ")):
        assert text.count(f"components/{one}") == 1
        text = text.replace(f"components/{one}", f"components/{other}")
    parsed = yaml.safe_load(text)
    parsed["components"].append("../../components/nginx-metrics")
    parsed["secretGenerator"] = [one for one in parsed["secretGenerator"] if one["name"] != "tls"]
    file.write_text(yaml.safe_dump(parsed))
    for name in ("tls.crt", "tls.key"):
        (file.parent / "secrets" / name).unlink()
    return copy


def render_variants(tree: Path) -> dict[str, list[Json]]:
    """Variant -> its objects."""
    overlays = {DEV: "dev", PRODUCTION: "production", ALTERNATIVE: "alternative"}
    return {variant: objects(tree / "overlays" / overlays[variant]) for variant in VARIANTS}


def kubectl_kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    """Have kubectl render a folder; it asks no cluster."""
    return subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=30)


def objects(overlay: Path) -> list[Json]:
    """What the cluster gets from an overlay."""
    done = kubectl_kustomize(overlay)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def files_of(folder: Path) -> Iterator[Path]:
    """The files that a kustomization is made of."""
    file = folder / "kustomization.yaml"
    yield file
    parsed = yaml.safe_load(file.read_text())
    names = [*parsed.get("resources", []), *parsed.get("components", [])]
    names += [patch["path"] for patch in parsed.get("patches", [])]
    generators = [*parsed.get("configMapGenerator", []), *parsed.get("secretGenerator", [])]
    names += [name for one in generators for name in [*one.get("envs", []), *one.get("files", [])]]
    for name in names:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from files_of(path)
        else:
            yield path


def validate(one: Json, version: str) -> None:
    """Raises ValueError where an object is not what its kind may be in this version of Kubernetes."""
    import jsonschema  # here, since it takes a second: one of its libraries compiles a grammar
    import kubernetes_validate  # imports it too

    try:
        if one["apiVersion"] in CUSTOM:
            jsonschema.validate(one, CUSTOM[one["apiVersion"]])
        else:
            kubernetes_validate.validate(one, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        raise ValueError(str(error)) from error


def one_of(rendered: list[Json], kind: str) -> Json:
    """The only object of a kind."""
    (found,) = [one for one in rendered if one["kind"] == kind]
    return found


def named(rendered: list[Json], kind: str, name: str) -> Json:
    """The object of a kind and name."""
    (found,) = [one for one in rendered if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def config_of(environment: Mapping[str, str]) -> Config:
    """The settings of a pod, checked as it checks them at its start."""
    settings = {name.lower(): value for name, value in environment.items() if name in DEFAULTS and value}
    return Config(_env_file=None, **settings)  # type: ignore[arg-type]  # pydantic reads the texts


def selects(selector: Json, labels: Json) -> bool:
    """Does a label selector choose what has these labels?"""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def secret_file(rendered: list[Json], pod: Pod, tree: Path, path: str) -> Path:
    """The file of the overlay that a pod sees at a path, mounted from a Secret that its group may read."""
    (mount,) = [mount for mount in pod.main["volumeMounts"] if path.startswith(f"{mount['mountPath']}/")]
    (volume,) = [volume for volume in pod.spec["volumes"] if volume["name"] == mount["name"]]
    assert volume["secret"]["defaultMode"] == 0o440
    file = Path(path).name
    assert file in named(rendered, "Secret", volume["secret"]["secretName"])["data"]
    return tree / "overlays" / "production" / "secrets" / file
