"""More than there is room for: requests are refused or slow, never wrong, and soon all is well again."""

import contextlib
import resource
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.crowd import Crowd
from tests.support.load import Client, Load, Outcome
from tests.support.process import WORKER, below
from tests.support.system import System

pytestmark = pytest.mark.alone

USUAL_SOFT_LIMIT = 1024
HONEST = {"200", "429", "503"}


@pytest.fixture(scope="module")
def recording() -> Iterator[System]:
    """The system with ``tests.apps.recording``, started under the usual soft limit of open files.

    Its workers wait for no other program on this machine.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_SOFT_LIMIT, hard))
    try:
        system = System(
            APP="tests.apps.recording:make_app", SLOW_NICE=0, LOG_FORMAT="console", LOG_LEVEL="warning"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with system:
        wait_until(lambda: is_well(system))  # every worker has imported the module
        yield system


@pytest.fixture
def crowded(recording: System) -> Iterator[System]:
    """The same, with honest fast clients, each of whose requests must be answered or refused."""
    with Load(
        recording.port, [*[Client("GET", "/record", 50)] * 3, Client("GET", "/record", 10, keeps=False)]
    ) as load:
        yield recording
        wait_until(lambda: is_well(recording), what="the system to be well again")
    assert not [request for request in load.requests if request.outcome is Outcome.FAILED]
    assert Outcome.ANSWERED in {request.outcome for request in load.requests}


def test_10000_idle_connections_are_held_and_still_good(crowded: System) -> None:
    with Crowd(crowded.port, 10_000, "/-/livez") as crowd:  # nginx answers it itself: 404
        assert crowd.ask() == {"404": 10_000}
        assert established(crowded) >= 10_000
        assert crowd.ask() == {"404": 10_000}
    wait_until(lambda: established(crowded) < 100, what="nginx to let go of them")


def test_2000_fast_requests_at_once_get_each_its_own_answer_or_a_refusal(crowded: System) -> None:
    with Crowd(crowded.port, 2_000, "/record?id={}") as crowd:
        answers = crowd.ask()
    assert answers.keys() <= HONEST
    assert answers["200"] > 500


def test_2000_slow_requests_at_once_get_each_its_own_answer_or_a_refusal(crowded: System) -> None:
    with Crowd(crowded.port, 2_000, "/slow/record?id={}&milliseconds=20") as crowd:
        answers = crowd.ask()
    assert answers.keys() <= HONEST
    assert answers["200"] >= 4
    assert answers["429"] + answers["503"] > 1_500


def test_nginx_without_another_open_file_refuses_or_is_slow(crowded: System) -> None:
    with Crowd(crowded.port, 400, "/record?id={}") as crowd:
        with few_open_files(nginx_workers(crowded), 70):
            crowd.send()
            for what in ("accept4?", "socket"):  # for a client, and for an instance
                crowded.wait_for_output(rf"{what}\(\) failed \(24: ")
        assert_all_answered(crowd)


def test_an_instance_without_another_open_file_is_slow_and_says_so_twice_a_second(crowded: System) -> None:
    instances = [psutil.Process(crowded.pid_of("fast", port)) for port in crowded.instances("fast")]
    message = "cannot accept a connection, next try in 0.5 s: Too many open files"
    with Crowd(crowded.port, 200, "/record?id={}") as crowd:
        with few_open_files(instances, 20):
            started_at = time.monotonic()
            crowd.send()
            wait_until(lambda: crowded.output.count(message) >= 6)
            assert crowded.output.count(message) <= 2 + 2 * len(instances) * (time.monotonic() - started_at)
        assert_all_answered(crowd)


def test_a_slow_instance_that_can_start_no_worker_starts_one_as_soon_as_it_can(crowded: System) -> None:
    instances = [psutil.Process(crowded.pid_of("slow", port)) for port in crowded.instances("slow")]
    with Crowd(crowded.port, 10, "/slow/record?id={}") as crowd:
        with few_open_files(instances, 8):
            for instance in instances:
                for worker in below(instance.pid, WORKER):
                    worker.kill()
            crowded.wait_for_output("cannot start a worker, next try in 0.8 s: .*Too many open files")
            crowd.send()
        assert_all_answered(crowd)


@contextlib.contextmanager
def few_open_files(processes: list[psutil.Process], count: int) -> Iterator[None]:
    """Until the block ends, no process can open a file when it has so many."""
    before = [process.rlimit(resource.RLIMIT_NOFILE) for process in processes]
    try:
        for process, (_, hard) in zip(processes, before, strict=True):
            process.rlimit(resource.RLIMIT_NOFILE, (count, hard))
        yield
    finally:
        for process, limits in zip(processes, before, strict=True):
            process.rlimit(resource.RLIMIT_NOFILE, limits)


def assert_all_answered(crowd: Crowd) -> None:
    """Each client that had to wait gets an answer."""
    answers = crowd.answers()
    assert answers.keys() <= HONEST
    assert answers["200"]


def is_well(system: System) -> bool:
    """Whether each pool answers, and each request with its own text."""
    asked = [(path, str(number)) for path in ("/record", "/slow/record") for number in range(4)]
    try:
        return all(system.get(f"{path}?id={number}").text == number for path, number in asked)
    except OSError:
        return False


def nginx_workers(system: System) -> list[psutil.Process]:
    """The processes that hold the connections."""
    return psutil.Process(int(system.program("nginx")["pid"])).children()


def established(system: System) -> int:
    """How many clients nginx is connected to."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == system.port
        for worker in nginx_workers(system)
        for connection in worker.net_connections("tcp")
    )
