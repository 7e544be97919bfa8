"""What a task forks, whatever it does, answers no client: each job gets its own answer."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from slowpool.errors import WorkerDied
from tests.apps import forks, zoo
from tests.support.pool import Pool, is_dead, until, with_pool

BY = list(forks.FORKS)
LATE_SECONDS = 0.3


@pytest.mark.parametrize(
    ("task", "args", "expected"),
    [
        *((forks.forks, (by,), "the parent's") for by in BY),
        *((forks.forks_and_raises, (by,), 1) for by in BY),
        *((forks.forks_and_exits, (by,), 5) for by in BY),
        *((forks.forks_and_executes_nothing, (by,), 1) for by in BY),
        *((forks.forks_and_forks_again, (by,), "the parent's") for by in BY),
        *((forks.returns_what_forks_when_pickled, (by,), "the parent's") for by in BY),
        (forks.forks_in_a_thread, (), "the parent's"),
        (forks.uses_forked_processes, (), [1, 1, 2]),
        (forks.starts_programs, (), ["one\n", "raised", "not inherited"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_after_a_task_that_forks_every_job_gets_its_own_answer_from_the_same_worker(
    task: Callable[..., object], args: tuple[object, ...], expected: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        assert await pool.run(task, *args) == expected
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10
        assert [await pool.run(zoo.own_pid) for _ in range(3)] == [pid] * 3

    with_pool(scenario)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("by", BY)
def test_a_child_that_a_task_leaves_ends_with_its_worker_and_every_job_gets_its_own_answer(
    by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        child = await pool.run(forks.leaves_a_child, by, LATE_SECONDS)
        assert await pool.run(zoo.sleep, 2 * LATE_SECONDS) == 2 * LATE_SECONDS
        assert is_dead(child)
        replaced = await pool.run(zoo.own_pid)
        await pool.run(forks.leaves_a_grandchild, by, str(tmp_path / "pid"))
        grandchild = int((tmp_path / "pid").read_text())
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10
        await until(lambda: is_dead(grandchild))
        assert len({pid, replaced, await pool.run(zoo.own_pid)}) == 3

    with_pool(scenario)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("os.fork", ["said before", "said by the child"]),
        ("os.forkpty", ["said before"]),  # the child has a terminal of its own
        ("libc", ["said before"]),  # the child cannot tell its own output from its parent's
    ],
)
def test_what_is_printed_around_a_fork_is_logged_once(
    by: str, expected: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)

    async def scenario(pool: Pool) -> None:
        await pool.run(forks.says_and_forks, by)

    with_pool(scenario)
    assert [text.partition(": ")[2] for text in caplog.messages if "said" in text] == expected


def test_what_a_forked_child_raises_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        await pool.run(forks.forks_and_executes_nothing, "os.fork")

    with_pool(scenario)
    assert "FileNotFoundError: [Errno 2]" in caplog.text


SENT = [
    "a byte",
    "half a header",
    "a reply",
    "a reply to the next job",
    "an item",
    "half a reply",
    "two replies",
    "rubbish",
    "an absurd size",
    "an absurd size and much",
    "another kind",
]


@pytest.mark.parametrize("sent", SENT)
def test_what_an_earlier_job_sends_while_no_job_runs_ends_the_worker_and_no_client_gets_it(
    sent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "the job has ended"

    async def scenario(pool: Pool) -> None:
        assert await pool.run(forks.leaves_a_thread_that_sends, sent, str(path)) == "its own"
        path.touch()
        await until(lambda: "bytes while it had no job" in caplog.text)
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10

    with_pool(scenario)
    assert [record.levelname for record in caplog.records if "which sent" in record.message] == ["ERROR"]


NO_WHOLE_HEADER = ("a byte", "half a header")
"""What is noticed only when the job's own reply follows it."""


@pytest.mark.parametrize("sent", SENT)
def test_what_an_earlier_job_sends_while_the_next_runs_ends_the_worker_and_no_client_gets_it(
    sent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "the next job runs")

    async def scenario(pool: Pool) -> None:
        assert await pool.run(forks.leaves_a_thread_that_sends, sent, path) == "its own"
        with pytest.raises(WorkerDied) as died:
            await pool.run(forks.lets_a_thread_send, path, 0.0 if sent in NO_WHOLE_HEADER else 30.0)
        assert "was killed by SIGKILL after it sent" in str(died.value.log_text)
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10

    with_pool(scenario)
    assert [record.levelname for record in caplog.records if "which sent" in record.message] == ["ERROR"]


@pytest.mark.parametrize("sent", sorted({*SENT} - {"a reply"}))
def test_what_a_child_sends_before_the_reply_ends_the_worker_and_the_job_fails(sent: str) -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(WorkerDied):
            await pool.run(forks.has_a_child_send, sent)
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10

    with_pool(scenario)


def test_a_child_that_replies_before_its_parent_answers_at_most_its_own_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(pool: Pool) -> None:
        with contextlib.suppress(WorkerDied):  # both replies had come
            assert await pool.run(forks.has_a_child_send, "a reply") == "another's"
        await until(lambda: "which sent" in caplog.text)
        for number in range(5):
            assert await pool.run(zoo.add, number, 10) == number + 10

    with_pool(scenario)
