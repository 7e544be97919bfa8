"""What a task prints."""

import pytest

from tests.apps import zoo
from tests.support.pool import Pool, with_pool


def test_what_a_task_prints_is_logged_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        await pool.submit(zoo.says, "hello", request_id="id-1").result()
        await pool.submit(zoo.says, "again", request_id="id-2").result()
        lines = [(record.getMessage(), getattr(record, "request_id", "")) for record in caplog.records]
        assert (f"worker {pid}: hello", "id-1") in lines
        assert (f"worker {pid}: again", "id-2") in lines

    with_pool(scenario)


def test_a_flood_of_output_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        await pool.run(zoo.prints_garbage)

    with_pool(scenario)
    assert sum(map(len, caplog.messages)) < 1 << 20
    assert any("more bytes of output are not logged" in message for message in caplog.messages)
