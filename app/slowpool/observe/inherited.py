"""Inherited: the steps that instances have left to another one of their pool when they ended."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from slowpool.observe.history import STEPS, Step, longest, step_number, total
from slowpool.observe.untrusted import MAX_TEXT, Count

MOST_PROCESSES = 200
"""The most processes that are known; more end in ten minutes only where something is broken."""

ProcessId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class Inherited(BaseModel):
    """The sums of the steps of processes that have ended, and the step in which each did; it counts once."""

    model_config = ConfigDict(strict=True)

    processes: Annotated[dict[ProcessId, Count], Field(max_length=MOST_PROCESSES)] = Field(
        default_factory=dict
    )
    steps: Annotated[dict[int, Step], Field(max_length=2 * STEPS)] = Field(default_factory=dict)

    def plus(self, other: "Inherited") -> "Inherited":
        """Both, as far as they are not too old. Raises ValidationError if a sum is too large."""
        if self.processes.keys() & other.processes:
            return self  # it has come twice
        kept = range(step_number() - STEPS + 1, step_number() + 2)
        numbers = {n for n in (*self.steps, *other.steps) if n in kept}
        both = {n: total(one.steps[n] for one in (self, other) if n in one.steps) for n in sorted(numbers)}
        for step in both.values():
            step.blocks = {route[:MAX_TEXT]: seconds for route, seconds in longest(step.blocks).items()}
        ended = sorted((at, one) for one, at in {**self.processes, **other.processes}.items() if at in kept)
        processes = {one: at for at, one in ended[-MOST_PROCESSES:]}
        return Inherited.model_validate_json(Inherited(processes=processes, steps=both).model_dump_json())
