"""Faults that were found by attacking the slow pool: what goes wrong costs one job, and no slot."""

import pytest

from slowpool.errors import DeadlinePassed, WorkerDied
from tests.apps import faulty, zoo
from tests.support.pool import Pool, with_pool


def test_a_worker_that_dies_while_its_stack_is_read_costs_its_job_only() -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(WorkerDied):
            await pool.run(faulty.dies_of_the_signal_for_its_stack, timeout=0.5)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario)


def test_a_stack_that_a_task_has_forged_costs_its_job_only() -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(DeadlinePassed):
            await pool.run(faulty.writes_a_stack_with_an_absurd_line, timeout=0.5)
        assert await pool.run(zoo.add, 1, 2) == 3

    with_pool(scenario)
