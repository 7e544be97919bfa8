"""Inherited: the steps that instances have left to another one of their pool when they ended."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from slowpool.observe.history import STEPS, Step, step_number, total
from slowpool.observe.untrusted import MAX_TEXT

MOST_PROCESSES = 200
"""Of how many processes the steps are known to be; more end in ten minutes only where something is broken."""

MOST_BLOCKS = 10
"""The longest blocks that a step keeps."""

ProcessId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class Inherited(BaseModel):
    """The sums of the steps of processes that have ended, and which these are: each is counted once."""

    model_config = ConfigDict(strict=True)

    processes: Annotated[list[ProcessId], Field(max_length=MOST_PROCESSES)] = Field(default_factory=list)
    steps: Annotated[dict[int, Step], Field(max_length=2 * STEPS)] = Field(default_factory=dict)

    def plus(self, other: "Inherited") -> "Inherited":
        """Both, as far as the steps are not too old. Raises ValidationError if a sum is too large."""
        if set(self.processes) & set(other.processes):
            return self  # it has come twice
        last = step_number()
        numbers = {n for n in (*self.steps, *other.steps) if last - STEPS < n <= last + 1}
        both = {n: total(one.steps[n] for one in (self, other) if n in one.steps) for n in sorted(numbers)}
        for step in both.values():
            longest = sorted(step.blocks.items(), key=lambda block: -block[1])[:MOST_BLOCKS]
            step.blocks = {route[:MAX_TEXT]: seconds for route, seconds in longest}
        processes = [*self.processes, *other.processes][-MOST_PROCESSES:]
        return Inherited.model_validate_json(Inherited(processes=processes, steps=both).model_dump_json())
