"""Deployment: the commands of the deployment at hand, for an operator to paste."""

import ipaddress
import shlex
from enum import Enum

from slowpool.config import DEFAULT_PROJECT, Config, project_name
from slowpool.local_run import set_in_shell


class Kind(Enum):
    """How the system was deployed."""

    LOCAL = "local"
    COMPOSE = "compose"
    SWARM = "swarm"
    KUBERNETES = "kubernetes"
    OTHER = "other"


SCALE = {
    # With the service as an argument, Compose changes neither nginx nor how often the other pool is there.
    Kind.COMPOSE: "docker compose{option} up -d --scale {pool}={replicas} {pool}",
    Kind.SWARM: "docker service scale {project}_{pool}={replicas}",
    Kind.KUBERNETES: "kubectl scale deployment/{pool} --replicas={replicas} -n {namespace}",
}

LOG = {
    Kind.COMPOSE: "docker compose{option} logs {pool}",
    Kind.SWARM: "docker service logs {project}_{pool}",
    Kind.KUBERNETES: "kubectl logs -l app.kubernetes.io/component={pool} --prefix --tail=100 -n {namespace}",
}

SECRET = ("JOBS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Settings that may have a password: a command takes them from the shell, and fails where it has none."""


class Deployment:
    """Each command is between backticks."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.kind = kind_of(config)
        project = project_name()
        self._names = {
            "project": shlex.quote(project),
            "option": "" if project == DEFAULT_PROJECT else f" -p {shlex.quote(project)}",
            "namespace": config.fast_host.split(".")[1] if self.kind is Kind.KUBERNETES else "",
        }

    def scale(self, pool: str, replicas: int) -> str:
        """The command for so many replicas of a pool; empty where there is none."""
        return self._filled(SCALE, pool=pool, replicas=replicas)

    def log(self, pool: str) -> str:
        """Where the log of a pool is: a command or a place."""
        place = "the terminal of ./deploy/local" if self.kind is Kind.LOCAL else "the log"
        return self._filled(LOG, pool=pool) or place

    def start_local(self, **settings: object) -> str:
        """The command that starts ``./deploy/local`` as it was started before, with these settings."""
        before = {
            name: f'"${{{name}:?set it as before}}"' if name in SECRET else shlex.quote(value)
            for name, value in set_in_shell(self._config).items()
        }
        variables = [f"{name}={value}" for name, value in {**before, **settings}.items()]
        return f"`{' '.join([*variables, './deploy/local'])}`"

    def _filled(self, forms: dict[Kind, str], **values: object) -> str:
        form = forms.get(self.kind)
        return f"`{form.format(**self._names, **values)}`" if form else ""


def kind_of(config: Config) -> Kind:
    """How the system with these settings was deployed: the names of the fast pool's replicas differ."""
    host = config.fast_host
    if _is_address(host):
        return Kind.LOCAL
    if "." not in host:
        return Kind.COMPOSE
    if host.startswith("tasks."):
        return Kind.SWARM
    return Kind.KUBERNETES if ".svc." in host else Kind.OTHER


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
