"""The unchanged docker-compose.yml on a real engine."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.client import refuses, request
from tests.support.compose import Compose, docker, log, moment
from tests.support.edge_counts import edge_counts
from tests.support.engine import needs_engine
from tests.support.system import is_ready

pytestmark = [needs_engine, pytest.mark.slow, pytest.mark.timeout(300)]

PLANTED = "a-secret-that-nobody-passed-on"
SERVICES = ("nginx", "fast", "slow")
TARGETS = {"fast": "/fast?id=7", "slow": "/slow_threaded?id=7&n=9"}


@pytest.fixture(scope="module")
def project() -> Iterator[Compose]:
    with Compose() as project:
        project.env["DATABASE_PASSWORD"] = PLANTED
        project("up", "--build", "--detach", "--wait", "--wait-timeout=200")
        yield project


@pytest.fixture
def stack(project: Compose) -> Compose:
    """The system with one replica of each pool, all healthy, whatever the test before has done."""
    scale(project, fast=1, slow=1)
    project("up", "--detach", "--no-build", "--wait", "--wait-timeout=100")
    return project


@pytest.fixture
def slow_port() -> int:
    return free_ports()


@pytest.fixture
def misbehaving(project: Compose, slow_port: int) -> Iterator[str]:
    """A container of the slow service with ``tests.apps.misbehaving``, apart from those behind nginx."""
    options = ["--env=APP=tests.apps.misbehaving:make_app", "--env=SLOW_PROCESSES=1"]
    options += [f"--volume={ROOT}/tests:/srv/tests:ro", f"--publish=127.0.0.1:{slow_port}:8101"]
    container = project("run", "--detach", "--no-deps", *options, "slow").stdout.strip()
    try:
        wait_until(lambda: is_ready(slow_port))
        yield container
    finally:
        docker("rm", "--force", container)


def test_all_is_healthy_and_answers(stack: Compose) -> None:
    for service in SERVICES:
        (container,) = stack.containers(service)
        assert container["State"]["Health"]["Status"] == "healthy"
        assert container["RestartCount"] == 0
    assert stack.get("/fast?id=7").text == "fast result 7"
    for path in ("/slow", "/slow_threaded"):
        response = stack.get(f"{path}?id=7&n=9")
        assert re.fullmatch(r"slow result 7 <--- \d\.\d{3} s", response.text)


@pytest.mark.parametrize(
    ("path", "pool"),
    [
        ("/fast", "fast"),
        ("/SLOW", "fast"),
        ("/slow", "slow"),
        ("/slow_x", "slow"),
        ("/slow/x", "slow"),
        ("//slow", "slow"),
        ("/%73low", "slow"),
        ("/x/../slow", "slow"),
    ],
)
def test_a_path_is_answered_by_its_pool(stack: Compose, path: str, pool: str) -> None:
    assert stack.get(path).pool == pool


def test_the_status_page_and_the_terminal_show_every_replica_and_what_nginx_counts(stack: Compose) -> None:
    scale(stack, fast=2, slow=1)
    for path, kind in (("/status", "text/html"), ("/status/static/status.js", "text/javascript")):
        response = request(stack.admin_port, path)
        assert (response.status, response.headers["Content-Type"].partition(";")[0]) == (200, kind)
    assert re.match(r"Active connections: \d+", request(stack.admin_port, "/status/nginx").text)

    def all_ready() -> bool:
        exit_status, content = shown_status(stack)
        found = {(one["address"], one["name"]) for one in content["instances"] if one["state"] == "ready"}
        return exit_status == 0 and found == {
            (address, f"{pool}:{port}")
            for pool, first in (("fast", 8001), ("slow", 8101))
            for address in stack.addresses(pool)
            for port in (first, first + 1)
        }

    wait_until(all_ready)


def test_nginx_counts_what_it_answers_itself_and_its_connections(stack: Compose) -> None:
    before = edge_counts(stack.admin_port)["errors 404"]
    assert stack.get("/-/readyz").status == 404
    wait_until(lambda: edge_counts(stack.admin_port)["errors 404"] > before)
    text = request(stack.admin_port, "/status/edge").text
    for name in ("accepted_total", "active", "idle"):
        assert re.search(rf"^nginx_connections_{name} \d+$", text, re.MULTILINE)


def test_many_events_at_once_are_counted_with_one_clock(stack: Compose) -> None:
    """The awk of the image has a clock in nanoseconds."""
    (container,) = stack.containers("nginx")
    before = edge_counts(stack.admin_port)["errors 404"]
    for _ in range(500):
        assert stack.get("/-/readyz").status == 404
    processes = docker("top", container["Id"], "-eo", "pid,args").splitlines()
    assert sum("sleep 1" in line and "sh " not in line for line in processes) <= 1, processes
    wait_until(lambda: edge_counts(stack.admin_port)["errors 404"] >= before + 500)


def test_when_no_fast_instance_is_left_a_slow_one_serves_the_status_page(stack: Compose) -> None:
    scale(stack, fast=0, slow=1)
    wait_until(lambda: request(stack.admin_port, "/status").headers["X-Served-By"].startswith("slow:"))


def test_every_line_on_stdout_is_a_json_object_and_a_request_has_one(stack: Compose) -> None:
    stack.get("/slow_threaded?id=7&n=9", headers={"X-Request-ID": "from-the-edge"})

    def lines() -> list[dict[str, Any]]:
        every = [json.loads(line) for service in SERVICES for line in stdout(stack, service)]
        return [line for line in every if line.get("request_id") == "from-the-edge"]

    wait_until(lines)
    ((logger, route, instance),) = [(line["logger"], line["route"], line["instance"]) for line in lines()]
    assert (logger, route) == ("nginx", "/slow_threaded")
    (container,) = stack.containers("slow")
    assert instance in {f"slow:{port}:{container['Id'][:12]}" for port in (8101, 8102)}


def test_the_instances_own_routes_are_not_published_and_the_same_names_are_the_applications(
    stack: Compose,
) -> None:
    for name in ("livez", "readyz", "metrics", "status"):
        response = stack.get(f"/-/{name}")
        assert (response.status, response.pool) == (404, "")
        assert response.problem()
        assert stack.get(f"/{name}").pool == "fast"


def test_the_admin_port_is_published_on_loopback_only(stack: Compose) -> None:
    assert request(stack.admin_port, "/livez").text == "ok"
    assert request(stack.port, "/fast?id=7", address="127.0.0.2").status == 200
    assert refuses(stack.admin_port, "127.0.0.2")


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_hardened(stack: Compose, service: str) -> None:
    (container,) = stack.containers(service)
    host = container["HostConfig"]
    assert container["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"] is True
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["Privileged"] is False
    look = "touch /srv/x /x /tmp/x 2>&1; rm /tmp/x"
    assert docker("exec", container["Id"], "sh", "-c", look).splitlines() == [
        "touch: cannot touch '/srv/x': Read-only file system",
        "touch: cannot touch '/x': Read-only file system",
    ]


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(stack: Compose) -> None:
    """tests/deploy/health.yml sets both."""
    processes = {"nginx": "[n]ginx: worker", "fast": "[-]-pool=fast", "slow": "[-]-pool=slow"}
    for service, process in processes.items():
        look = f"cat $(grep -l -e '{process}' /proc/[0-9]*/cmdline | sed s,cmdline,limits,)"
        limits = stack("exec", "-T", service, "sh", "-c", look).stdout
        assert set(re.findall(r"^Max open files +(\d+) +(\d+)", limits, re.M)) == {("17000", "17000")}


def test_a_full_tmpfs_of_nginx_refuses_what_must_be_buffered_and_nothing_else(stack: Compose) -> None:
    small, large = b"x" * 1_000, b"x" * 1_000_000
    with full_tmpfs(stack, "nginx"):
        for number in range(10):
            response = stack.get(f"/fast?id={number}", body=large)
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert response.problem()
            assert stack.get(f"/fast?id={number}", body=small).text == f"fast result {number}"
            assert stack.get(f"/slow_threaded?id={number}&n=9").text.startswith(f"slow result {number} <")
    wait_until(lambda: stack.get("/fast?id=7", body=large).text == "fast result 7")


def test_a_full_tmpfs_of_the_instances_changes_nothing_not_even_for_a_restart(stack: Compose) -> None:
    with contextlib.ExitStack() as full:
        for pool in TARGETS:
            full.enter_context(full_tmpfs(stack, pool))
        for number in range(10):
            assert stack.get(f"/fast?id={number}", body=b"x" * 1_000_000).text == f"fast result {number}"
            assert stack.get(f"/slow_threaded?id={number}&n=9").text.startswith(f"slow result {number} <")
        assert stack("exec", "-T", "fast", "deploy/rolling-restart").returncode == 0
    for number in range(10):
        assert stack.get(f"/fast?id={number}").text == f"fast result {number}"


def test_a_worker_gives_way_to_all_else(stack: Compose) -> None:
    """In this stack SLOW_NICE is 0, so this process takes a worker's priority."""
    take = "import os; from slowpool.linux.scheduling import give_way; give_way(19); "
    take += "print(os.sched_getscheduler(0))"
    (container,) = stack.containers("slow")
    assert int(docker("exec", container["Id"], "python", "-c", take)) == os.SCHED_IDLE


def test_no_process_of_any_container_has_a_privilege(stack: Compose) -> None:
    fields = "Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp"
    # What the engine starts in a container, such as a health check, drops its privileges a moment later.
    started_in_it = "/proc/1/status $(grep -LsE '^PPid:[[:space:]]0$' /proc/[0-9]*/status)"
    look = f"grep -hsE '^({fields}):' {started_in_it} | tr -s '\\t ' ' ' | sort -u"
    for service in SERVICES:
        (container,) = stack.containers(service)
        assert set(docker("exec", container["Id"], "sh", "-c", look).splitlines()) == {
            "Uid: 10001 10001 10001 10001",
            "Gid: 10001 10001 10001 10001",
            "Groups: 10001 ",
            *(f"Cap{kind}: {0:016}" for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
            "NoNewPrivs: 1",
            "Seccomp: 2",  # the engine's own filter at least
        }


def test_neither_the_engine_nor_the_image_tells_what_was_not_passed_on(stack: Compose) -> None:
    for service in SERVICES:
        told = exposed(*stack.containers(service))
        assert "DRAIN_TIMEOUT_SECONDS=65" in told
        assert PLANTED not in told


def test_a_worker_writes_to_memory_and_accepted_jobs_alone_and_does_not_reach_supervisor(
    misbehaving: str, slow_port: int
) -> None:
    def run(task: str) -> str:
        return request(slow_port, f"/slow/zoo/{task}").text

    assert run("writable_places") == "['/dev/mqueue', '/dev/shm', '/tmp', '/var/lib/slowpool']"
    assert run("calls_supervisor") == "EACCES"
    assert run("has_its_instance_call_supervisor") == "EACCES"
    assert run("uses_processes") == "[1, 2]"
    # What is not in the sandbox does reach it.
    ask = "from tests.apps.zoo import calls_supervisor; print(calls_supervisor())"
    url = "SUPERVISOR_SERVER_URL=unix:///tmp/slowpool/supervisor.sock"
    assert docker("exec", f"--env={url}", misbehaving, "python", "-c", ask) == "connected\n"


def test_an_accepted_job_is_there_for_a_replica_that_takes_the_place_of_all_others(stack: Compose) -> None:
    accepted = stack.get("/slow_threaded?id=7&n=9", headers={"Prefer": "respond-async"})
    assert accepted.status == 202
    job = accepted.headers["Location"]
    wait_until(lambda: stack.get(job).json()["state"] == "done")
    before = names(stack, "slow")
    stack("up", "--detach", "--no-build", "--no-deps", "--force-recreate", "slow")
    assert not before & names(stack, "slow")
    wait_until(lambda: status(stack, job) == 200, 60)
    assert stack.get(f"{job}/result").text.startswith("slow result 7 <")


def test_only_the_slow_pool_writes_to_the_folder_of_accepted_jobs_and_no_other_user(stack: Compose) -> None:
    look = 'stat --format="%u:%g %a" "$SLOWPOOL_STATE_DIR"; touch "$SLOWPOOL_STATE_DIR/x" && echo written'
    assert stack("exec", "-T", "slow", "sh", "-c", look).stdout == "10001:10001 700\nwritten\n"
    assert "written" not in stack("exec", "-T", "fast", "sh", "-c", f"{look}; true").stdout


@pytest.mark.long  # the fault schedule scales too
def test_nginx_follows_as_replicas_come_and_go_and_no_request_fails(
    stack: Compose, background: ThreadPoolExecutor
) -> None:
    with Traffic(stack, background) as traffic:
        scale(stack, fast=3, slow=2)
        assert (len(stack.containers("fast")), len(stack.containers("slow"))) == (3, 2)
        wait_until(lambda: traffic.find_new() == 6)  # two instances in each of three new replicas
        scale(stack, fast=1, slow=1)
        traffic.wait_for_more()
        assert traffic.statuses() == {"GET": {200}, "POST": {405}}


def test_a_pool_scaled_to_nothing_is_503_and_comes_back(stack: Compose) -> None:
    scale(stack, fast=1, slow=0)
    for method in ("GET", "POST", "GET"):
        response = stack.get(TARGETS["slow"], method)
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert response.problem()["detail"] == "no instance takes requests at the moment"
        assert stack.get(TARGETS["fast"]).status == 200
    scale(stack, fast=1, slow=1)
    wait_until(lambda: status(stack, TARGETS["slow"]) == 200, 100)


def test_the_command_of_a_hint_scales_the_pool_and_changes_nothing_else(stack: Compose) -> None:
    scale(stack, fast=2, slow=1)
    before = names(stack, "fast") | names(stack, "nginx") | names(stack, "slow")
    (status_text,) = [
        docker("exec", container["Id"], "python", "-c", HINT) for container in stack.containers("slow")
    ]
    (command,) = re.findall("`(docker compose .* up .*)`", status_text)
    assert f" -p {stack.env['COMPOSE_PROJECT_NAME']} " in command
    env = {name: value for name, value in stack.env.items() if name != "COMPOSE_PROJECT_NAME"}
    subprocess.run(command, shell=True, cwd=ROOT, env=env, check=True, timeout=200)
    assert len(names(stack, "slow")) == 2
    assert before < names(stack, "fast") | names(stack, "nginx") | names(stack, "slow")


HINT = """
from slowpool.config import Config
from slowpool.status.deployment import Deployment
print(Deployment(Config.load()).scale("slow", 2))
"""


def test_it_comes_up_in_any_order(stack: Compose) -> None:
    stack("stop")
    stack("up", "--detach", "--no-build", "--no-deps", "nginx")
    wait_until(lambda: not refuses(stack.port))
    for target in TARGETS.values():
        wait_until(lambda: status(stack, target) == 503)  # noqa: B023  # waits here
    for pool in ("slow", "fast"):
        stack("up", "--detach", "--no-build", "--no-deps", pool)
        wait_until(lambda: status(stack, TARGETS[pool]) == 200, 60)  # noqa: B023  # waits here


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the DNS from a container")
def test_while_dns_fails_it_serves_whom_it_knows_and_then_follows(stack: Compose) -> None:
    (nginx,), (old,) = stack.containers("nginx"), stack.containers("fast")
    with without_dns(nginx):
        time.sleep(3)  # by then nginx has asked and got nothing
        for target in TARGETS.values():
            assert stack.get(target).status == 200
        scale(stack, fast=2, slow=1)
        new = next(found for found in stack.containers("fast") if found["Id"] != old["Id"])
        wait_until(lambda: len(ready_times(new)) == 2)
        docker("kill", old["Id"])
        for method in ("GET", "POST"):
            response = stack.get(TARGETS["fast"], method)
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
    wait_until(lambda: status(stack, TARGETS["fast"]) == 200, 60)


def test_stopping_answers_what_has_been_accepted_and_ends_all_within_the_grace_period(
    stack: Compose, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(stack.get, "/slow_threaded?id=7&n=6000", timeout=100)  # takes some 5 s
    wait_until(lambda: shown_status(stack)[1]["pools"]["slow"]["running"] == 1, what="a job that runs")
    stack("stop")
    assert answer.result().status == 200
    for service in SERVICES:
        (container,) = stack.containers(service)
        assert container["State"]["Status"] == "exited"
        assert (service, container["State"]["ExitCode"]) == (service, 0)  # 137 after the grace period
        assert not container["State"]["OOMKilled"]


@pytest.mark.long  # the fault schedule rolls too
def test_all_replicas_are_replaced_and_no_request_is_lost(
    stack: Compose, background: ThreadPoolExecutor
) -> None:
    scale(stack, fast=2, slow=1)
    before = {pool: names(stack, pool) for pool in TARGETS}
    with Traffic(stack, background) as traffic:
        done = rolling_restart(stack)
        assert (done.returncode, done.stderr) == (0, "")
        traffic.wait_for_more()
        assert traffic.statuses() == {"GET": {200}, "POST": {405}}
    for pool in TARGETS:
        assert len(names(stack, pool)) == len(before[pool])
        assert not names(stack, pool) & before[pool]
    after = {pool: names(stack, pool) for pool in TARGETS}
    scale(stack, fast=2, slow=1)  # Compose takes them for what it would have made itself
    assert {pool: names(stack, pool) for pool in TARGETS} == after


@pytest.mark.long
def test_a_new_release_that_does_not_come_up_leaves_the_old_containers_as_they_are(stack: Compose) -> None:
    before = {pool: names(stack, pool) for pool in TARGETS}
    done = rolling_restart(stack, "fast", APP="no.such.module:make_app")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("rolling-restart: the containers of fast stay as they were: ")
    assert line.endswith(
        "APP=no.such.module:make_app: there is no module 'no'; "
        "put your package in the working directory or install it with pip"
    )
    assert {pool: names(stack, pool) for pool in TARGETS} == before
    assert stack.get(TARGETS["fast"]).status == 200


def test_a_roll_to_settings_that_the_running_nginx_does_not_fit_touches_nothing(stack: Compose) -> None:
    before = {service: names(stack, service) for service in SERVICES}
    longer = {"SLOW_TIMEOUT_SECONDS": "120", "DRAIN_TIMEOUT_SECONDS": "125", "STOP_GRACE_SECONDS": "140"}
    for settings, changes, command in (
        (
            longer,
            "SLOW_TIMEOUT_SECONDS=60 (new: 120), DRAIN_TIMEOUT_SECONDS=65 (new: 125)",
            "docker compose up -d --no-deps nginx",
        ),
        ({"SLOW_PROCESSES": "3"}, "SLOW_PROCESSES=2 (new: 3)", "docker compose up -d --no-deps nginx"),
        ({"FAST_PORT": "8011"}, "FAST_PORT=8001 (new: 8011)", "docker compose up -d,"),
    ):
        done = rolling_restart(stack, **settings)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"rolling-restart: nothing was touched, since nginx runs with {changes}; ")
        assert command in line
    assert {service: names(stack, service) for service in SERVICES} == before


@pytest.mark.long
def test_after_nginx_has_been_replaced_the_roll_to_a_longer_timeout_goes_on() -> None:
    longer = {"SLOW_TIMEOUT_SECONDS": "120", "DRAIN_TIMEOUT_SECONDS": "125", "STOP_GRACE_SECONDS": "140"}
    with Compose() as project:
        project("up", "--build", "--detach", "--wait", "--wait-timeout=200")
        project.env |= longer
        assert rolling_restart(project).returncode == 1
        project("up", "--detach", "--no-deps", "nginx")
        assert rolling_restart(project, "slow").returncode == 0
        (slow,) = project.containers("slow")
        assert "SLOW_TIMEOUT_SECONDS=120" in slow["Config"]["Env"]
        assert slow["Config"]["StopTimeout"] == 140


def test_without_a_certificate_no_port_for_tls_is_published(stack: Compose) -> None:
    (nginx,) = stack.containers("nginx")
    assert {port for port, bound in nginx["NetworkSettings"]["Ports"].items() if bound} == {
        "8080/tcp",
        "8081/tcp",
    }


def test_the_instances_of_a_replica_are_restarted_in_it(stack: Compose) -> None:
    done = stack("exec", "-T", "fast", "deploy/rolling-restart")
    assert re.fullmatch(r"(rolling-restart: fast:fast-\d+ is ready again after [\d.]+ s\n){2}", done.stdout)


@pytest.mark.long  # the same without containers is short
def test_a_program_that_cannot_run_ends_its_container_with_its_reason() -> None:
    with Compose(APP="no.such.module:make_app") as broken:
        broken("up", "--detach", "--no-deps", "fast")

        (container,) = broken.containers("fast")

        def printed() -> str:
            return "\n".join(line for _, line in log(container))

        wait_until(lambda: broken.containers("fast")[0]["RestartCount"], 60)
        wait_until(lambda: "slowpool: APP=no.such.module:make_app: there is no module 'no'" in printed())
        assert "Traceback" not in printed()


class Traffic:
    """A few clients with short pauses, until left."""

    def __init__(self, stack: Compose, background: ThreadPoolExecutor) -> None:
        self._stack = stack
        self._background = background
        self._stopped = False
        self._seen: dict[str, list[int]] = {"GET": [], "POST": []}
        self._asking: list[Future[None]] = []
        self._old = {pool: stack.addresses(pool) for pool in TARGETS}

    def __enter__(self) -> "Traffic":
        for method in self._seen:
            for target in TARGETS.values():
                self._asking.append(self._background.submit(self._ask, method, target))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stopped = True
        if kind is None:
            for asking in self._asking:
                asking.result()

    def statuses(self) -> dict[str, set[int]]:
        """Which statuses each method has been answered until now."""
        return {method: set(seen) for method, seen in self._seen.items()}

    def wait_for_more(self) -> None:
        """Wait until each method has got another 50 answers."""
        before = {method: len(seen) for method, seen in self._seen.items()}
        wait_until(lambda: all(len(self._seen[method]) >= before[method] + 50 for method in before))

    def find_new(self) -> int:
        """How many instances of new replicas nginx has used."""
        (nginx,) = self._stack.containers("nginx")
        lines = [json.loads(line) for _, line in log(nginx) if line.startswith("{")]
        used = {line["upstream"].split()[-1] for line in lines if line.get("status") in (200, 405)}
        new = {one for pool in TARGETS for one in self._stack.addresses(pool) - self._old[pool]}
        return sum(upstream.partition(":")[0] in new for upstream in used)

    def _ask(self, method: str, target: str) -> None:
        body = b"x" if method == "POST" else None
        while not self._stopped:
            self._seen[method].append(self._stack.get(target, method, body=body).status)
            time.sleep(0.01)  # leave the CPU to what starts and stops meanwhile


def shown_status(stack: Compose) -> tuple[int, dict[str, Any]]:
    """The exit status of ``slowpool status`` in a fast container, and the figures that it shows."""
    shown = stack("exec", "-T", "fast", "python", "-m", "slowpool", "status", "--json", check=False)
    return shown.returncode, json.loads(shown.stdout)


def exposed(container: dict[str, Any]) -> str:
    """All that the engine tells of a container and its image, and the environment of its processes."""
    image = container["Image"]
    look = "cat /proc/[0-9]*/environ 2>/dev/null || true"  # a health check may just end
    inspected = docker("inspect", container["Id"], image) + docker("history", "--no-trunc", image)
    return inspected + docker("exec", container["Id"], "sh", "-c", look)


def stdout(stack: Compose, service: str) -> list[str]:
    """What a service's only container has printed, without its stderr."""
    (container,) = stack.containers(service)
    return subprocess.run(
        ["docker", "logs", container["Id"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout.splitlines()


def names(stack: Compose, service: str) -> set[str]:
    """The containers of a service."""
    return {str(container["Id"]) for container in stack.containers(service)}


def rolling_restart(stack: Compose, *services: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """``deploy/rolling-restart --compose``."""
    return subprocess.run(
        [ROOT / "deploy" / "rolling-restart", "--compose", *services],
        env={**stack.env, **settings},
        capture_output=True,
        text=True,
        timeout=250,
    )


def scale(stack: Compose, *, fast: int, slow: int) -> None:
    """``docker compose up -d --scale``, as the README says."""
    stack("up", "--detach", "--no-build", f"--scale=fast={fast}", f"--scale=slow={slow}")


@contextlib.contextmanager
def without_dns(container: dict[str, Any]) -> Iterator[None]:
    """The engine's DNS does not answer this container."""
    rule = ["OUTPUT", "--destination", "127.0.0.11", "--jump", "DROP"]
    inside = ["nsenter", f"--net=/proc/{container['State']['Pid']}/ns/net", "iptables", "--wait"]
    subprocess.run([*inside, "--insert", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "--delete", *rule], check=True)


@contextlib.contextmanager
def full_tmpfs(stack: Compose, service: str) -> Iterator[None]:
    """A service's only container has no room left in /tmp."""
    (container,) = stack.containers(service)
    fill = "dd if=/dev/zero of=/tmp/full bs=1M; head -c 4096 /dev/zero >> /tmp/full"
    assert "No space left on device" in docker("exec", container["Id"], "sh", "-c", f"{fill}; true")
    try:
        yield
    finally:
        docker("exec", container["Id"], "rm", "/tmp/full")


def ready_times(container: dict[str, Any]) -> dict[int, float]:
    """Port -> when the instance was ready, by the engine's clock, since the container's last start."""
    started = moment(container["State"]["StartedAt"])
    found = ((when, re.search(r"\w+:(\d+):\w+ is ready\"", line)) for when, line in log(container))
    return {int(match[1]): when.timestamp() for when, match in found if match and when > started}


def status(stack: Compose, target: str) -> int:
    """The status of an answer, 0 when the connection failed."""
    try:
        return stack.get(target).status
    except OSError:
        return 0
