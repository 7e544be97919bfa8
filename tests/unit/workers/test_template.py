"""Workers that are forked from the template have at once what it has warmed up."""

import os
import signal
from pathlib import Path

import pytest

from slowpool.errors import AppError
from tests.apps import warm_tasks, zoo
from tests.support.pool import Pool, is_alive, is_dead, until, with_pool
from tests.support.pool_host import template_of

APP = "tests.apps.warmed:model"


@pytest.fixture
def warmed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which each process that warms up writes its pid."""
    path = tmp_path / "warmed by"
    monkeypatch.setenv("WARMED_BY", str(path))
    return path


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


async def kill_worker(pool: Pool) -> None:
    pid = await pool.run(zoo.own_pid)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: is_dead(pid))


def test_a_killed_worker_is_replaced_by_a_fork_of_the_template_that_has_warmed_up_once(
    warmed_by: Path,
) -> None:
    async def scenario(pool: Pool) -> None:
        template = template_of(pool)
        workers = set()
        for _ in range(4):
            pid, parent, loaded = await pool.run(warm_tasks.origin)
            assert (parent, loaded) == (template, True)
            assert await pool.run(warm_tasks.uses_the_model) == (100_000, pid)
            workers.add(pid)
            await kill_worker(pool)
        assert len(workers) == 4
        assert pids(warmed_by) == [template], "and no worker has warmed up"

    with_pool(scenario, app=APP)


def test_forked_workers_share_what_was_warmed_up_and_not_their_random_numbers(warmed_by: Path) -> None:
    async def scenario(pool: Pool) -> None:
        addresses, numbers = set(), set()
        for _ in range(3):
            addresses.add(await pool.run(warm_tasks.address_of_the_model))
            numbers.add(await pool.run(warm_tasks.random_number))
            await kill_worker(pool)
        assert len(addresses) == 1
        assert len(numbers) == 3

    with_pool(scenario, app=APP)


@pytest.mark.parametrize(
    ("how", "fork", "why"),
    [
        ("", False, "SLOW_FORK=0"),
        ("thread", True, "2 threads are alive after warming up, such as loader"),
    ],
)
def test_where_a_fork_is_not_safe_each_worker_starts_afresh_and_the_log_says_once_why(
    how: str,
    fork: bool,
    why: str,
    warmed_by: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WARMED", how)

    async def scenario(pool: Pool) -> None:
        template = template_of(pool)
        workers = set()
        for _ in range(3):
            pid, parent, loaded = await pool.run(warm_tasks.origin)
            assert (parent, loaded) == (template, True)
            assert await pool.run(warm_tasks.uses_the_model) == (100_000, pid)
            workers.add(pid)
            await kill_worker(pool)
        await pool.run(zoo.own_pid)
        found = pids(warmed_by)
        assert workers < {*found}, "each worker has warmed up itself"
        assert len(found) == len({*found}), "once"
        os.kill(template, signal.SIGKILL)
        await until(lambda: template_of(pool) != template)
        await kill_worker(pool)
        assert await pool.run(zoo.add, 1, 1) == 2

    with_pool(scenario, app=APP, slow_fork=fork)
    told = [message for message in caplog.messages if "afresh" in message]
    assert told == [f"each worker is started afresh, not forked from a warm process: {why}"]


def test_threads_that_end_at_a_fork_are_no_reason_to_start_workers_afresh(
    warmed_by: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WARMED", "library")

    async def scenario(pool: Pool) -> None:
        assert (await pool.run(warm_tasks.origin))[1:] == (template_of(pool), True)
        assert pids(warmed_by) == [template_of(pool)]

    with_pool(scenario, app=APP)
    assert "afresh" not in caplog.text


def test_a_warm_function_that_fails_at_the_first_start_is_the_applications_error(
    warmed_by: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMED", f"fails:{warmed_by}")

    async def scenario(pool: Pool) -> None:
        raise AssertionError("unreachable")

    with pytest.raises(AppError, match=f"^APP={APP} .* that fails: ValueError: no model there$") as raised:
        with_pool(scenario, app=APP)
    assert "in model\n" in raised.value.traceback
    (template,) = pids(warmed_by)
    assert is_dead(template)


def test_a_warm_function_that_fails_later_is_logged_and_tried_again_while_the_workers_go_on(
    warmed_by: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fail now"
    monkeypatch.setenv("WARMED", f"fails:{path}")

    async def scenario(pool: Pool) -> None:
        worker, template = await pool.run(zoo.own_pid), template_of(pool)
        path.touch()
        os.kill(template, signal.SIGKILL)
        await until(lambda: caplog.text.count("cannot start a template, next try in") >= 2)
        assert await pool.run(zoo.own_pid) == worker
        path.unlink()
        await until(lambda: template_of(pool) != template)
        await kill_worker(pool)
        assert (await pool.run(warm_tasks.origin))[1:] == (template_of(pool), True)

    with_pool(scenario, app=APP)
    assert "fails: ValueError: no model there" in caplog.text


def test_a_module_that_cannot_be_imported_is_logged_and_workers_start_nevertheless(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        assert await pool.run(zoo.add, 1, 1) == 2
        await until(lambda: "No module named 'tests.apps.nowhere'" in caplog.text)

    with_pool(scenario, app="tests.apps.nowhere:make_app")
    assert "cannot import tests.apps.nowhere before the first job" in caplog.text


def test_a_child_of_a_warm_function_lives_as_long_as_the_template(
    warmed_by: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    monkeypatch.setenv("WARMED", f"child:{path}")

    async def scenario(pool: Pool) -> None:
        for _ in range(2):
            await kill_worker(pool)
        assert await pool.run(zoo.add, 1, 1) == 2
        assert is_alive(int(path.read_text()))

    with_pool(scenario, app=APP)
    assert is_dead(int(path.read_text()))
