"""An instance whose workers are in the sandbox."""

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slowpool.config import Pool
from slowpool.linux import sandbox
from tests.support.basics import free_ports, wait_until
from tests.support.client import request, unanswered
from tests.support.pool import is_alive
from tests.support.process import Instance, Process, app_command, app_environment
from tests.support.sandbox import needs_landlock, needs_root, needs_sandbox, refusing

pytestmark = needs_sandbox


@pytest.mark.parametrize(("sandboxed", "expected"), [(1, "EACCES"), (0, "connected")])
def test_what_a_worker_answers_does_not_open_one_in_its_instance(
    listener: str, monkeypatch: pytest.MonkeyPatch, sandboxed: int, expected: str
) -> None:
    monkeypatch.setenv("SUPERVISOR_SERVER_URL", f"unix://{listener}")
    with Instance(APP="tests.apps.misbehaving:make_app", SLOW_SANDBOX=sandboxed) as instance:
        assert instance.get("/slow/zoo/has_its_instance_call_supervisor").text == expected


@pytest.mark.parametrize(
    "landlock", [pytest.param(True, marks=needs_landlock), pytest.param(False, marks=needs_root)]
)
def test_a_worker_of_an_instance_sees_into_itself_and_no_other_process(
    landlock: bool, other: int, tmp_path: Path
) -> None:
    with misbehaving(landlock, tmp_path) as port:
        target = "/slow/zoo/sees_what_the_request_names"
        seen = json.loads(request(port, target, "POST", body=str(other).encode()).body)
        assert seen["seen"] == []
        assert {"environ", "maps", "mem", "exe"} <= set(seen["own"])


@pytest.mark.parametrize("landlock", [pytest.param(True, marks=needs_landlock), False])
@pytest.mark.parametrize("task", ["spawns_children_and_threads", "spawns_a_child_in_a_user_namespace"])
def test_an_instance_in_the_sandbox_still_kills_all_that_its_workers_started(
    landlock: bool, task: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    with misbehaving(landlock, tmp_path) as port:
        with unanswered(port, f"/slow/children?task={task}&file={pids}"):
            wait_until(pids.exists)
        children = [int(pid) for pid in pids.read_text().split()]
        assert children
        wait_until(lambda: not any(map(is_alive, children)))


@contextmanager
def misbehaving(landlock: bool, path: Path, **settings: object) -> Iterator[int]:
    """The port of a slow instance of the zoo, on a system with or without Landlock."""
    port = free_ports()
    command = app_command(Pool.SLOW, port)
    if not landlock:
        command = refusing(sandbox.LANDLOCK_CREATE_RULESET, 0, command)
    settings = {"APP": "tests.apps.misbehaving:make_app", **settings}
    with Process(command, path, app_environment(path, settings)) as process:
        process.wait_for_output(" is ready$")
        assert landlock != ("there is no Landlock here" in process.output)
        yield port


def test_where_the_system_refuses_the_sandbox_the_log_says_so_and_all_else_works(tmp_path: Path) -> None:
    """As an emulator of another processor does."""
    port = free_ports()
    prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
    command = refusing(prctl, sandbox.PR_SET_SECCOMP, app_command(Pool.ALL, port))
    with Process(command, tmp_path, app_environment(tmp_path, {})) as process:
        process.wait_for_output("WARNING .* there is no sandbox, the system refuses it: Invalid argument")
        process.wait_for_output(" is ready$")
        assert request(port, "/slow_threaded?id=7&n=9").status == 200
