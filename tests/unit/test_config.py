"""The settings."""

import os
import pwd
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.config import Config, Instance, Pool, parse_cpus, state_dir
from slowpool.errors import ConfigError
from slowpool.mistyped import mistyped

CONTRACT = {
    "HTTP_PORT": 8080,
    "ADMIN_PORT": 8081,
    "HTTPS_PORT": 8443,
    "TLS_CERTIFICATE": "",
    "TLS_KEY": "",
    "SERVER_NAMES": "",
    "TRUSTED_PROXIES": "",
    "SLOW_PER_CLIENT": 4,
    "CLIENT_RATE": 0,
    "CLIENT_CONNECTIONS": 0,
    "CLIENT_UPLOADS": 5,
    "ADMIN_PASSWORD_FILE": "",
    "FAST_PROCESSES": 2,
    "SLOW_PROCESSES": 2,
    "FAST_PORT": 8001,
    "SLOW_PORT": 8101,
    "SLOW_WORKERS": 0,
    "SLOW_FORK": True,
    "SLOW_QUEUE": 8,
    "SLOW_TIMEOUT_SECONDS": 60,
    "FAST_HOST": "127.0.0.1",
    "SLOW_HOST": "127.0.0.1",
    "SLOW_MAX_JOBS": 0,
    "SLOW_MAX_RSS_BYTES": 0,
    "SLOW_MAX_MEMORY_BYTES": 0,
    "SLOW_MAX_RESULT_BYTES": 67_108_864,
    "JOBS_URL": "sqlite:",
    "JOB_QUEUE": 1000,
    "JOB_STORE_BYTES": 1_073_741_824,
    "JOB_TIMEOUT_SECONDS": 3600,
    "JOB_RESULT_SECONDS": 3600,
    "JOB_LEASE_SECONDS": 10,
    "INSTANCE_MAX_RSS_BYTES": 0,
    "SLOW_SANDBOX": True,
    "SLOW_NICE": 19,
    "SLOW_CPUS": "",
    "APP": "demo:make_app",
    "SLOW_PATHS": "/slow",
    "SLOW_LEARN_SECONDS": 600,
    "MAX_BODY_BYTES": 20_971_520,
    "HTTP_SERVER": "slowpool",
    "FAST_TIMEOUT_SECONDS": 60,
    "STREAM_PATHS": "",
    "AFFINITY": "",
    "STREAM_DRAIN_SECONDS": 10,
    "DRAIN_TIMEOUT_SECONDS": 65,
    "STOP_GRACE_SECONDS": 80,
    "FAST_BLOCK_BUDGET_SECONDS": 0.25,
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    "DEBUG": False,
}

BAD = [
    ("HTTP_PORT", "0", "greater than or equal to 1"),
    ("HTTP_PORT", "65536", "less than or equal to 65535"),
    ("ADMIN_PORT", "http", "integer"),
    ("ADMIN_PORT", "80.5", "integer"),
    ("FAST_PORT", "-1", "greater than or equal to 1"),
    ("FAST_PORT", "65535", "too high for 2 instances"),
    ("SLOW_PORT", "65535", "too high for 2 instances"),
    ("FAST_PROCESSES", "0", "greater than or equal to 1"),
    ("SLOW_PROCESSES", "257", "less than or equal to 256"),
    ("SLOW_WORKERS", "-1", "greater than or equal to 0"),
    ("SLOW_WORKERS", "257", "less than or equal to 256"),
    ("SLOW_MAX_RESULT_BYTES", "0", "greater than or equal to 1024"),
    ("SLOW_QUEUE", "-1", "greater than or equal to 0"),
    ("SLOW_QUEUE", "eight", "integer"),
    ("SLOW_MAX_JOBS", "-1", "greater than or equal to 0"),
    ("SLOW_MAX_RSS_BYTES", "1g", "integer"),
    ("SLOW_MAX_MEMORY_BYTES", "-1", "greater than or equal to 0"),
    ("SLOW_MAX_MEMORY_BYTES", "9223372036854775808", "less than or equal to 9223372036854775807"),
    ("JOBS_URL", "jobs.sqlite", "pattern"),
    ("JOBS_URL", "sqlite:jobs.sqlite", "pattern"),
    ("JOBS_URL", "valkey://", "pattern"),
    ("JOB_QUEUE", "-1", "greater than or equal to 0"),
    ("JOB_STORE_BYTES", "1024", "greater than or equal to 1048576"),
    ("JOB_TIMEOUT_SECONDS", "0", "greater than or equal to 0.001"),
    ("JOB_RESULT_SECONDS", "1h", "number"),
    ("JOB_LEASE_SECONDS", "0.5", "greater than or equal to 1"),
    ("SLOW_TIMEOUT_SECONDS", "0", "greater than or equal to 0.001"),
    ("SLOW_TIMEOUT_SECONDS", "nan", "less than or equal to 86400"),
    ("SLOW_TIMEOUT_SECONDS", "inf", "less than or equal to 86400"),
    ("SLOW_TIMEOUT_SECONDS", "1m", "number"),
    ("SLOW_NICE", "-1", "greater than or equal to 0"),
    ("SLOW_NICE", "20", "less than or equal to 19"),
    ("SLOW_CPUS", "a", "such as 1-3 or 0,2"),
    ("SLOW_CPUS", "1-", "such as 1-3 or 0,2"),
    ("SLOW_CPUS", "-1", "such as 1-3 or 0,2"),
    ("SLOW_CPUS", "2-1", "such as 1-3 or 0,2"),
    ("SLOW_CPUS", "0;1", "such as 1-3 or 0,2"),
    ("APP", "shop/main.py", "pattern"),
    ("APP", "shop.main", "pattern"),
    ("APP", "shop.main:", "pattern"),
    ("APP", "shop.main:make_app()", "pattern"),
    ("SLOW_PATHS", "slow", "pattern"),
    ("SLOW_PATHS", "/", "pattern"),
    ("SLOW_PATHS", "//slow", "pattern"),
    ("SLOW_PATHS", "/slow,/reports;", "pattern"),
    ("SLOW_PATHS", '/slow"', "pattern"),
    ("SLOW_PATHS", "/a%20b", "pattern"),
    ("SLOW_PATHS", "/slow /slow", "/slow is there twice"),
    ("SLOW_PATHS", "/a/../slow", "nginx resolves . and .."),
    ("STREAM_PATHS", "/-/upload", "slowpool's own"),
    ("STREAM_PATHS", "/-", "slowpool's own"),
    ("SLOW_LEARN_SECONDS", "-1", "greater than or equal to 0"),
    ("MAX_BODY_BYTES", "0", "greater than or equal to 1"),
    ("MAX_BODY_BYTES", "20m", "integer"),
    ("HTTP_SERVER", "uvicorn", "'slowpool' or 'tornado'"),
    ("FAST_TIMEOUT_SECONDS", "0", "greater than or equal to 1"),
    ("FAST_TIMEOUT_SECONDS", "0.5", "integer"),
    ("AFFINITY", "cookie", "pattern"),
    ("AFFINITY", "cookie:", "pattern"),
    ("AFFINITY", "cookie:a b", "pattern"),
    ("AFFINITY", "ip", "pattern"),
    ("STREAM_DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ("DRAIN_TIMEOUT_SECONDS", "0", "greater than 0"),
    ("DRAIN_TIMEOUT_SECONDS", "62.9", "at least 63, which is SLOW_TIMEOUT_SECONDS + 3"),
    ("STOP_GRACE_SECONDS", "75", "more than 75"),
    ("STOP_GRACE_SECONDS", "80s", "integer"),
    ("FAST_HOST", "fast pool", "pattern"),
    ("SLOW_HOST", "slow;", "pattern"),
    ("FAST_BLOCK_BUDGET_SECONDS", "-1", "greater than or equal to 0"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "pattern"),
    ("LOG_FORMAT", "xml", "'json' or 'console'"),
    ("LOG_LEVEL", "trace", "'debug', 'info', 'warning' or 'error'"),
    ("TLS_CERTIFICATE", "a b.pem", "pattern"),
    ("TLS_CERTIFICATE", "certificate.pem", "needs TLS_KEY too"),
    ("TLS_KEY", "key.pem", "needs TLS_CERTIFICATE too"),
    ("SERVER_NAMES", "shop.example;", "pattern"),
    ("TRUSTED_PROXIES", "10.0.0.0/33", "such as 10.0.0.0/8"),
    ("TRUSTED_PROXIES", "10.0.0.1/8", "such as 10.0.0.0/8"),
    ("TRUSTED_PROXIES", "proxy", "such as 10.0.0.0/8"),
    ("SLOW_PER_CLIENT", "-1", "greater than or equal to 0"),
    ("CLIENT_RATE", "ten", "integer"),
    ("CLIENT_CONNECTIONS", "65536", "less than or equal to 65535"),
    ("ADMIN_PASSWORD_FILE", "a;b", "pattern"),
    ("DEBUG", "perhaps", "boolean"),
]


pytestmark = pytest.mark.usefixtures("nothing_set")


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = {name.upper(): value for name, value in Config.load().model_dump().items()}
    assert settings == CONTRACT


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONTRACT:
        monkeypatch.setenv(name, "")
    assert Config.load() == Config()


def test_the_environment_wins_over_the_file_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLOW_QUEUE=3\nSLOW_NICE=4\nNOT_OURS=1\n")
    monkeypatch.setenv("SLOW_NICE", "5")
    config = Config.load()
    assert (config.slow_queue, config.slow_nice) == (3, 5)


@pytest.mark.parametrize(("name", "value", "reason"), BAD)
def test_a_bad_value_is_one_line_that_names_the_variable_and_says_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        Config.load()
    line = str(raised.value)
    assert line.startswith(f"{name}={value}")
    assert reason in line
    assert "\n" not in line


def test_a_value_of_two_lines_is_one_line_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP", "shop\nmain")
    with pytest.raises(ConfigError) as raised:
        Config.load()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOW_PATHS", "/reports /a/b/  /x-y"), ("STREAM_PATHS", "/upload"), ("AFFINITY", "address"),
     ("AFFINITY", "cookie:__Host-session.id"), ("APP", "shop.web.main:App.build"), ("APP", "shop:app")],
)  # fmt: skip
def test_a_value_of_the_right_form_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Config.load(), name.lower()) == value


def test_a_ladder_whose_rungs_just_fit_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW_TIMEOUT_SECONDS", "90")
    monkeypatch.setenv("DRAIN_TIMEOUT_SECONDS", "93")
    monkeypatch.setenv("STOP_GRACE_SECONDS", "104")
    config = Config.load()
    assert config.slow_timeout_seconds + 3 == config.drain_timeout_seconds
    assert config.drain_timeout_seconds < config.stop_wait_seconds < config.stop_grace_seconds


def test_a_fraction_of_a_second_keeps_the_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_TIMEOUT_SECONDS", "65.9")
    config = Config.load()
    assert config.drain_timeout_seconds < config.stop_wait_seconds < config.stop_grace_seconds


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("SLOW_WORKER", "SLOW_WORKERS"),
        ("slow_worker", "SLOW_WORKERS"),
        ("HTTP_PROT", "HTTP_PORT"),
        ("SLOW_TIMEOUT", "SLOW_TIMEOUT_SECONDS"),
        ("SLOW_MAX_MEMORY", "SLOW_MAX_MEMORY_BYTES"),
        ("ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("ROUTES", "APP"),
        ("SLOW_PATH", "SLOW_PATHS"),
        ("FAST_TIMEOUT", "FAST_TIMEOUT_SECONDS"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_mistyped_setting_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, setting: str, where: str
) -> None:
    if where == "environment":
        monkeypatch.setenv(name, "1")
    else:
        (tmp_path / ".env").write_text(f"{name}=1\n")
    assert mistyped().get(name.upper()) == setting


@pytest.mark.parametrize(
    "name",
    [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "DATABASE_URL",
        "REDIS_PORT",
        "FASTAPI_PORT",
        "FLASK_PORT",
        "FTP_PORT",
        "SLOW_MODE",
        "SLOW_QUERY",
        "SHOP_WORKERS",
        "SECRET_KEY",
        "SERVER_PORT",
        "ADMIN_EMAIL",
        "CLIENT_SECRET",
        "PUBLIC_HTTPS_PORT",
        "ADMIN_ADDRESS",
        "LISTEN_ADDRESS",
        "STOP_WAIT_SECONDS",
        "PROMETHEUS_PORT",
        "GRAFANA_PORT",
        "NGINX_IMAGE",
        "FAST_REPLICAS",
        "FAST_SERVICE_PORT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ],
)
def test_a_variable_of_somebody_else_is_not_taken_for_a_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert name not in mistyped()


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config.load().http_port = 1  # type: ignore[misc]  # that is the point


def test_the_instances_of_a_pool_have_consecutive_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW_PROCESSES", "3")
    config = Config.load()
    assert list(map(str, config.instances(Pool.FAST))) == ["fast:8001", "fast:8002"]
    assert config.instances(Pool.SLOW)[2] == Instance(Pool.SLOW, 8103)


def test_the_environment_for_programs_gives_the_same_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBUG", "1")
    monkeypatch.setenv("SLOW_TIMEOUT_SECONDS", "1.5")
    config = Config.load()
    for name, value in config.environ().items():
        monkeypatch.setenv(name, value)
    assert Config.load() == config


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", []),
        ("0", [0]),
        ("1-3", [1, 2, 3]),
        ("0,2", [0, 2]),
        ("0, 2-3", [0, 2, 3]),
        ("5-5,5", [5]),
    ],
)
def test_a_list_of_cpus_is_read_as_taskset_reads_it(text: str, cpus: list[int]) -> None:
    assert parse_cpus(text) == frozenset(cpus)


def test_a_cpu_that_this_machine_has_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = min(available_cpus())
    monkeypatch.setenv("SLOW_CPUS", str(cpu))
    assert Config.load().worker_cpus == {cpu}


def test_a_cpu_that_this_machine_does_not_have_is_refused_with_those_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpus = available_cpus()
    monkeypatch.setenv("SLOW_CPUS", str(max(cpus) + 1))
    with pytest.raises(ConfigError, match=f"the CPUs here are {min(cpus)}"):
        Config.load()


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a user keeps state, who has no deployment."""
    monkeypatch.delenv("SLOWPOOL_STATE_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home" / ".local" / "state"


def test_two_applications_of_one_user_share_no_state(
    own_state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = []
    for name in ("shop", "site"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert state_dir("main:app") == state_dir("main:app")
        folders += [state_dir("main:app"), state_dir("main:make_app")]
    assert len({*folders}) == 4
    assert all(folder.is_relative_to(own_state / "slowpool") for folder in folders)


def test_state_is_where_the_user_or_the_deployment_wants_it(
    own_state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_dir("main:app").is_relative_to(tmp_path / "state" / "slowpool")
    monkeypatch.setenv("SLOWPOOL_STATE_DIR", "/var/lib/slowpool")
    assert state_dir("main:app") == state_dir("main:make_app") == Path("/var/lib/slowpool")


def test_a_user_without_a_home_is_told_what_to_set(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="set SLOWPOOL_STATE_DIR"):
        state_dir("main:app")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """This process gets no more than 512 MB beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 512 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which CPUs there are")
def test_a_range_far_beyond_the_machine_is_refused_without_being_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLOW_CPUS", "0-99999999999")
    with pytest.raises(ConfigError, match="SLOW_CPUS"):
        Config.load()


def available_cpus() -> set[int]:
    """The CPUs that this process may use."""
    if sys.platform != "linux":
        pytest.skip("only Linux says which CPUs a process may use")
    return os.sched_getaffinity(0)
