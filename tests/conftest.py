"""Fixtures for all tests."""

import gc
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from deploy.supervise.run import raise_open_files
from slowpool.config import Config

pytest.register_assert_rewrite("tests.support")  # its failures show their values too

from tests.support.basics import DEFAULTS, new_state_dir, remove_state_dirs  # noqa: E402
from tests.support.gate import Gate  # noqa: E402

TOGETHER = ("tests/system/shared/", "tests/system/pages/")
"""Folders whose tests share systems or a browser."""

# Hypothesis uses the same examples in each run. With --hypothesis-profile=long it uses more of them, new ones
# in each run, and prints those that fail.
settings.register_profile(
    "short",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the fixtures hold for all examples
)
settings.register_profile("long", settings.get_profile("short"), max_examples=5000, derandomize=False)
settings.load_profile("short")


def pytest_configure(config: pytest.Config) -> None:
    DEFAULTS["HTTP_SERVER"] = config.getoption("--http-server")
    os.environ["SLOWPOOL_STATE_DIR"] = new_state_dir()  # not the developer's home
    raise_open_files()  # as the system does, since nginx warns when its limit is too low
    # A program that a shell starts in the background ignores SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes more than some 20 seconds")
    config.addinivalue_line("markers", "long: skipped with --short, as in CI; a shorter test covers the same")
    config.addinivalue_line("markers", "alone: needs both CPUs; none runs beside it")


def pytest_unconfigure() -> None:
    remove_state_dirs()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(TOGETHER))  # the longest first
    if config.getoption("--short"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long, and this is the short form"))


def pytest_collection_finish() -> None:
    gc.freeze()  # the tests stay until the end; a garbage collection need not look through them


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """As ``--dist=loadfile``, but one process runs all the tests of a folder that belong together."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in TOGETHER if nodeid.startswith(folder)), None)
        return folder or str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="without the tests that are marked as long")
    parser.addoption("--http-server", default=DEFAULTS["HTTP_SERVER"], help="slowpool or tornado")
    parser.addoption("--call-multi-runs", type=int, default=1, help="runs of the tester client, per way")
    parser.addoption("--parser-mutants", type=int, default=50, help="how many odd requests more")
    parser.addoption("--testssl-all", action="store_true", help="everything that testssl knows")
    parser.addoption("--capacity", action="store_true", help="hold the simulation against the real system")
    parser.addoption("--attack-rounds", type=int, default=1, help="rounds of each slow attack")


@pytest.fixture
def call_multi_runs(pytestconfig: pytest.Config) -> int:
    """How often the tester client is run."""
    return int(pytestconfig.getoption("--call-multi-runs"))


@pytest.fixture
def testssl_all(pytestconfig: pytest.Config) -> bool:
    """Whether testssl makes all its checks, or only the most important ones."""
    return bool(pytestconfig.getoption("--testssl-all"))


@pytest.fixture(scope="session")
def attack_rounds(pytestconfig: pytest.Config) -> int:
    """How often the latency under each slow attack is measured."""
    return int(pytestconfig.getoption("--attack-rounds"))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate at which requests of this test wait. It is opened at the end of the test."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(300) as executor:
        yield executor


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting is in the environment, and there is no file ``.env``."""
    for name in Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[str]:
    """The path of a Unix socket on which somebody listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        yield str(tmp_path / "socket")


@pytest.fixture
def other() -> Iterator[int]:
    """A process of the same user that is none of the worker's."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()
