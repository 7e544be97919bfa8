"""In which order the systems are measured, and how often each."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench import measure
from tests.bench.options import Figures
from tests.bench.overload import overload
from tests.bench.systems import System

Measurement = Callable[..., Figures]


class Rounds(NamedTuple):
    """How often something is measured, by the kind of the system."""

    ours: int = 1
    server: int = 1
    tornado: int = 1


ROUNDS: dict[Measurement, Rounds] = {
    measure.cost: Rounds(ours=3, server=3),
    measure.isolation: Rounds(ours=5),
    measure.isolation_at_high_rate: Rounds(ours=5),
    measure.three_and_twenty: Rounds(),
    measure.throughput: Rounds(),
    measure.waste: Rounds(),
    overload: Rounds(ours=3),
    measure.faults: Rounds(),
}
"""The systems take turns."""

VISITS = [
    [measure.cost],  # the systems in quick succession, since their rates are compared
    [one for one in ROUNDS if one not in (measure.cost, measure.faults)],
    [measure.faults],  # the backlog of the overload would be in its way
]
"""What is measured of a system from one start of it to its end."""

MOST_ROUNDS = max(max(rounds) for rounds in ROUNDS.values())


class Visit(NamedTuple):
    """A system is started for these measurements."""

    turn: int
    system: System
    measurements: list[Measurement]


def visits(
    chosen: list[System], wanted: list[str], rounds: int, is_measured: Callable[[str], bool]
) -> Iterator[Visit]:
    """Round by round, each time another system first; keys that are measured already are left out."""
    for turn in range(rounds):
        first = turn % (len(chosen) or 1)
        for together in VISITS:
            for system in chosen[first:] + chosen[:first]:
                missing = [
                    one
                    for one in together
                    if one.__name__ in wanted
                    and turn < getattr(ROUNDS[one], system.kind.value)
                    and not is_measured(key(one, system, turn))
                ]
                if missing:
                    yield Visit(turn, system, missing)


def key(measured: Measurement, system: System, turn: int) -> str:
    """The name of its figures in the results."""
    return f"{measured.__name__}/{system.name}/{turn}"
