"""How much is measured, and the form of what is found."""

from dataclasses import dataclass

Figures = dict[str, float]
"""Seconds, bytes, counts and ratios, by name."""


@dataclass(frozen=True)
class Options:
    """How much is measured; times in seconds."""

    warm_up: float = 3
    half: float = 5
    """Each half of a round of isolation, and all that is measured in rounds."""
    long_job_size: int = 6000
    """``n`` of a slow request of about a second."""
    abandoned_job: float = 10
    clients_that_leave: int = 4
    overload: float = 30
    fault: float = 8
    generations: int = 6
    """How often single instances that are compared are started anew."""
    turns: int = 3
    """How often the instances of a generation take turns."""
    turn: float = 1
    """Seconds for which one is asked at a time."""
    pair: float = 2
    """Seconds for which two instances are asked at once."""


QUICK = Options(
    warm_up=1.5, half=1.5, long_job_size=4000, abandoned_job=1, overload=8, fault=4, generations=1
)
