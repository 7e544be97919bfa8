"""The settings: each is defined once, here. Besides this module only environment.py reads the environment."""

import ipaddress
import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from slowpool.errors import ConfigError

IDLE_SECONDS = 3
"""How long nginx keeps an idle connection to an instance, on which a request may still come."""

STOP_MARGIN_SECONDS = 5
"""By how much each timeout of the ladder exceeds the one below it."""

MAX_CPU = 8191
"""The highest CPU number of any Linux (CONFIG_NR_CPUS)."""

Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=256)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Size = Annotated[int, Field(ge=0)]
Limit = Annotated[int, Field(ge=0, le=65535)]
File = Annotated[str, Field(pattern=r"^[^\s\"$\\;{}]*$")]
Prefixes = Annotated[
    str, Field(pattern=r"^((/[A-Za-z0-9._~+,:@=!*-]+)+/?( +(/[A-Za-z0-9._~+,:@=!*-]+)+/?)*)?$")
]


def supervised_dir() -> Path | None:
    """The run directory of the supervisor that runs this process; none without one."""
    return Path(folder) if (folder := os.environ.get("SLOWPOOL_RUN_DIR")) else None


DEFAULT_PROJECT = "slowpool"


def project_name() -> str:
    """The Compose project, or the swarm stack, of the container in which this process runs."""
    return os.environ.get("SLOWPOOL_PROJECT") or DEFAULT_PROJECT


def state_dir(app: str) -> Path:
    """The folder of what outlives an instance: the deployment's, or this user's own for an application.

    Two applications with the same APP are told apart by the folder that they are started in. Raises
    ConfigError for a user without a home.
    """
    if folder := os.environ.get("SLOWPOOL_STATE_DIR"):
        return Path(folder)
    try:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError as error:
        raise ConfigError("this user has no home to keep accepted jobs in; set SLOWPOOL_STATE_DIR") from error
    return base / "slowpool" / Path.cwd().relative_to("/") / app


def env_file() -> str | None:
    """The file of settings; none for a program of deploy/supervise, whose settings are those of its start."""
    return None if supervised_dir() else ".env"


class Pool(StrEnum):
    """The tag of an instance; ``all`` is one process with both pools' routes, for development."""

    FAST = "fast"
    SLOW = "slow"
    ALL = "all"


@dataclass(frozen=True)
class Instance:
    """One Tornado process: its pool, where it listens, and the replica that it is in, if any."""

    pool: Pool
    port: int
    address: str = "127.0.0.1"
    replica: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, [self.pool, str(self.port), self.replica]))


class Config(BaseSettings):
    """All settings of a deployment, frozen; the variable of a field is its name in upper case.

    An empty variable counts as unset. A file ``.env`` in the working directory is read too; the
    environment wins over it.
    """

    model_config = SettingsConfigDict(frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore")

    http_port: Port = Field(8080, description="port of the public server")
    admin_port: Port = Field(8081, description="port of the admin server, published on 127.0.0.1 only")
    https_port: Port = Field(8443, description="port of the public server for TLS, with a certificate")
    tls_certificate: File = Field(
        "",
        description="file with the certificate and its chain (PEM); `HTTP_PORT` then redirects to "
        "`HTTPS_PORT`",
    )
    tls_key: File = Field("", description="file with the private key of the certificate (PEM)")
    server_names: str = Field(
        "",
        pattern=r"^[A-Za-z0-9.*_-]*([ ,]+[A-Za-z0-9.*_-]+)*$",
        description="host names of this server, such as `shop.example, *.shop.example`; a request for any "
        "other is answered 421; empty: all are accepted",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks of proxies, such as `10.0.0.0/8`, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are trusted; empty: none",
    )
    slow_per_client: Limit = Field(
        4, description="open slow requests per client address; more are answered 429; 0: no limit"
    )
    client_rate: Limit = Field(
        0,
        description="requests per second and client address, with bursts of the same size; "
        "more are answered 429; 0: no limit",
    )
    client_connections: Limit = Field(
        0,
        description="open requests per client address, where each stream of HTTP/2 counts; "
        "more are answered 429; 0: no limit",
    )
    client_uploads: Limit = Field(
        5,
        description="open requests per client address with a body of 250 KB or more, or of unknown length, "
        "each of which may occupy `MAX_BODY_BYTES` in nginx's `/tmp`; 20 times as many with 10 to 250 KB; "
        "more are answered 429; 0: no limit",
    )
    admin_password_file: File = Field(
        "", description="file with the password of the admin server, for user `admin`; empty: no password"
    )
    fast_processes: Count = Field(2, description="fast instances per replica")
    slow_processes: Count = Field(2, description="slow instances per replica")
    fast_port: Port = Field(8001, description="port of the first fast instance; the others use the next ones")
    slow_port: Port = Field(8101, description="port of the first slow instance; the others use the next ones")
    fast_host: Host = Field("127.0.0.1", description="host of the fast replicas; containers have their own")
    slow_host: Host = Field("127.0.0.1", description="host of the slow replicas; containers have their own")
    instance_max_rss_bytes: Size = Field(
        0,
        description="resident memory above which an instance is drained and restarted, one per replica "
        "at a time (Linux); 0: never",
    )
    slow_workers: int = Field(
        0,
        ge=0,
        le=256,
        description="workers per slow instance; each runs one job at a time; 0: the CPUs that there are, "
        "divided by `SLOW_PROCESSES`, at least 1",
    )
    slow_fork: bool = Field(
        True,
        description="1: workers are forked from a process that has imported the application and run its "
        "`@slowpool.warm` functions (Linux); 0: each worker is started afresh",
    )
    slow_queue: int = Field(
        8, ge=0, le=100_000, description="jobs that may wait per slow instance; more are answered 503"
    )
    slow_timeout_seconds: float = Field(
        60, ge=0.001, le=86_400, description="time limit of a job from arrival to answer, including its wait"
    )
    slow_max_jobs: Size = Field(0, description="jobs after which a worker is replaced; 0: never")
    slow_max_rss_bytes: Size = Field(
        0,
        description="resident memory, beyond that at its start, above which a worker is replaced after its "
        "job; 0: never",
    )
    slow_max_memory_bytes: int = Field(
        0,
        ge=0,
        le=2**63 - 1,  # setrlimit takes no more
        description="memory that a worker may allocate (`RLIMIT_DATA`); beyond it a task gets a "
        "`MemoryError`; 0: no limit",
    )
    slow_max_result_bytes: int = Field(
        67_108_864,
        ge=1024,
        le=2**40,
        description="largest result of a job, and item of a stream, as a pickle; more is an error",
    )
    jobs_url: str = Field(
        "sqlite:",
        pattern=r"^(sqlite:(///[^\s?#]+)?|(valkey|redis)s?://[^\s]+)$",
        description="where accepted jobs are kept: `sqlite:`, a file of the deployment's own; "
        "`sqlite:///PATH`; or `valkey://HOST:PORT/0` where slow instances run on several machines",
    )
    job_queue: int = Field(
        1000, ge=0, le=1_000_000, description="accepted jobs that may wait; more are answered 503"
    )
    job_store_bytes: int = Field(
        1_073_741_824,
        ge=1_048_576,
        le=2**50,
        description="requests and answers of all accepted jobs; when that is full, more are answered 503",
    )
    job_timeout_seconds: float = Field(
        3600, ge=0.001, le=864_000, description="time limit of an accepted job, from its start"
    )
    job_result_seconds: float = Field(
        3600, ge=0.001, le=8_640_000, description="how long the answer of an accepted job is kept"
    )
    job_lease_seconds: float = Field(
        10,
        ge=1,
        le=3600,
        description="after so long without a sign of life an instance has lost its accepted jobs",
    )
    slow_sandbox: bool = Field(
        True,
        description="1: slow instances and their workers cannot open Unix sockets, including supervisor's, "
        "or inspect other processes (Linux); 0: they can, as `multiprocessing.Manager` or a database on a "
        "Unix socket needs",
    )
    slow_nice: int = Field(
        19,
        ge=0,
        le=19,
        description="niceness of the workers and of their scheduling group; at 19 they are also `SCHED_IDLE` "
        "where that group is a cgroup, as in a container",
    )
    slow_cpus: str = Field(
        "", description="CPUs that the workers may use, such as `1-3` or `0,2`; empty: all"
    )
    app: str = Field(
        "demo:make_app",
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        description="`module:attribute`: a `tornado.web.Application`, or a function without arguments that "
        "returns one",
    )
    slow_paths: Prefixes = Field(
        "/slow", description="prefixes, separated by spaces, of paths that go straight to the slow pool"
    )
    slow_learn_seconds: float = Field(
        600,
        ge=0,
        le=86_400,
        description="how long a route that blocked a fast instance for more than "
        "`FAST_BLOCK_BUDGET_SECONDS` is handed over to the slow pool; 0: never",
    )
    max_body_bytes: int = Field(
        20_971_520,
        ge=1,
        le=2**40,
        description="largest body of a request; nginx collects bodies in `/tmp`, which has 256 MB in a "
        "container",
    )
    http_server: Literal["slowpool", "tornado"] = Field(
        "slowpool",
        description="HTTP server of an instance: `slowpool`, or `tornado`, which is Tornado's own and takes "
        "twice the CPU time",
    )
    fast_timeout_seconds: int = Field(
        60,
        ge=1,
        le=86_400,
        description="how long nginx waits for a fast instance between two reads; the request is not repeated",
    )
    stream_paths: Prefixes = Field(
        "",
        description="prefixes, separated by spaces, of paths whose request bodies nginx passes on as they "
        "arrive; such a request cannot be handed over",
    )
    affinity: str = Field(
        "",
        pattern=r"^(address|cookie:[A-Za-z0-9_.-]+)?$",
        description="`address` or `cookie:NAME`: requests of the same client address, or with the same "
        "cookie, reach the same fast instance; empty: the least busy one",
    )
    stream_drain_seconds: float = Field(
        10,
        ge=0,
        le=86_400,
        description="how long an instance that stops waits for answers that have begun and have no "
        "`Content-Length`; at most `DRAIN_TIMEOUT_SECONDS`",
    )
    drain_timeout_seconds: float = Field(
        65,
        gt=0,
        le=86_400,
        description="longest time that an instance takes to finish accepted requests after SIGTERM; at least "
        "`SLOW_TIMEOUT_SECONDS` + 3",
    )
    stop_grace_seconds: int = Field(
        80,
        ge=1,
        le=90_000,
        description="longest time that a container, or a local run, takes to stop; more than "
        "`DRAIN_TIMEOUT_SECONDS` + 10",
    )
    fast_block_budget_seconds: float = Field(
        0.25,
        ge=0,
        le=3600,
        description="a fast handler that blocks longer is logged with its stack; 0: never",
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="format of the log: `json`, one object per line, or `console`, for people"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged: `debug`, `info`, `warning` or `error`"
    )
    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="where OpenTelemetry traces are sent (OTLP over HTTP), such as `http://collector:4318`; "
        "empty: nowhere",
    )
    debug: bool = Field(False, description="1: the answer to a failed request contains the traceback")

    @classmethod
    def load(cls) -> Self:
        """Read and check the environment.

        Raises ConfigError, one line with the first wrong variable and its valid values.
        """
        try:
            return cls(_env_file=env_file())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            if not first["loc"]:  # from a check over several settings, which names them itself
                raise ConfigError(message) from error
            value = str(first["input"]).encode("unicode_escape").decode()
            raise ConfigError(f"{str(first['loc'][0]).upper()}={value}: {message}") from error

    @property
    def stop_wait_seconds(self) -> int:
        """supervisor's ``stopwaitsecs``: how long an instance may drain before it is killed."""
        return int(self.drain_timeout_seconds) + STOP_MARGIN_SECONDS

    @property
    def worker_cpus(self) -> frozenset[int]:
        """The CPUs of ``slow_cpus``; empty for no restriction."""
        return parse_cpus(self.slow_cpus)

    def instances(self, pool: Pool) -> list[Instance]:
        """The instances of one pool in one replica."""
        first, count = {
            Pool.FAST: (self.fast_port, self.fast_processes),
            Pool.SLOW: (self.slow_port, self.slow_processes),
        }[pool]
        return [Instance(pool, first + index) for index in range(count)]

    def environ(self) -> dict[str, str]:
        """Every setting, by the name of its variable."""
        return {name.upper(): str(value) for name, value in self.model_dump().items()}

    @field_validator("slow_cpus")
    @classmethod
    def _check_cpus(cls, value: str) -> str:
        cpus = parse_cpus(value)
        if sys.platform == "linux" and not cpus <= os.sched_getaffinity(0):
            available = ",".join(map(str, sorted(os.sched_getaffinity(0))))
            raise ValueError(f"the CPUs here are {available}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        for network in value.replace(",", " ").split():
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write addresses or networks such as 10.0.0.0/8") from error
        return value

    @field_validator("slow_paths", "stream_paths")
    @classmethod
    def _check_prefixes(cls, value: str) -> str:
        prefixes = value.split()
        for prefix in prefixes:
            if f"{prefix}/".startswith("/-/"):
                raise ValueError("paths below /-/ are slowpool's own")
            if {".", ".."} & {*prefix.split("/")}:
                raise ValueError("nginx resolves . and .. before it compares a path")
            if prefixes.count(prefix) > 1:
                raise ValueError(f"{prefix} is there twice")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            names = ["TLS_CERTIFICATE", "TLS_KEY"] if self.tls_certificate else ["TLS_KEY", "TLS_CERTIFICATE"]
            value = self.tls_certificate or self.tls_key
            raise ValueError(f"{names[0]}={value} needs {names[1]} too")
        return self

    @model_validator(mode="after")
    def _check_ladder(self) -> Self:
        least = self.slow_timeout_seconds + IDLE_SECONDS
        if least > self.drain_timeout_seconds:
            raise ValueError(
                f"DRAIN_TIMEOUT_SECONDS={self.drain_timeout_seconds:g} must be at least {least:g}, which is "
                f"SLOW_TIMEOUT_SECONDS + {IDLE_SECONDS}, or draining cuts off jobs"
            )
        if self.stop_grace_seconds <= self.stop_wait_seconds + STOP_MARGIN_SECONDS:
            raise ValueError(
                f"STOP_GRACE_SECONDS={self.stop_grace_seconds} must be more than "
                f"{self.stop_wait_seconds + STOP_MARGIN_SECONDS}, which is "
                f"DRAIN_TIMEOUT_SECONDS + {2 * STOP_MARGIN_SECONDS}"
            )
        return self

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        for pool in (Pool.FAST, Pool.SLOW):
            instances = self.instances(pool)
            if instances[-1].port > 65535:
                raise ValueError(
                    f"{pool.upper()}_PORT={instances[0].port} is too high for "
                    f"{len(instances)} instances: ports end at 65535"
                )
        return self


def parse_cpus(text: str) -> frozenset[int]:
    """The CPU numbers of a list such as ``0,2-3``, the form of ``taskset -c``.

    Raises ValueError when the text is not such a list.
    """
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError("not a list of CPUs such as 1-3 or 0,2")
        if int(last or first) > MAX_CPU:
            raise ValueError(f"the highest CPU number is {MAX_CPU}")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)
