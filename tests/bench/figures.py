"""The stored figures of the benchmark, and their forms in a table."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

Content = dict[str, Any]
"""What results.json has."""

Format = Callable[[float], str]

Cell = Callable[[Content, str], str]
"""The text of a system's cell in a column."""

NOT_MEASURED = "–"


def values_of(content: Content, measurement: str, system: str, name: str) -> list[float]:
    """A figure of each round of a system."""
    return list(_rounds(content, measurement, system, name).values())


def median_of(content: Content, measurement: str, system: str, name: str) -> float | None:
    """Their median; None if it was not measured."""
    values = values_of(content, measurement, system, name)
    return median(values) if values else None


def ratio_of(content: Content, measurement: str, name: str, system: str, other: str) -> float | None:
    """Median of what one system has ÷ what another has in the same round; None without such a round."""
    ours, theirs = (_rounds(content, measurement, which, name) for which in (system, other))
    ratios = [ours[turn] / theirs[turn] for turn in ours.keys() & theirs.keys()]
    return median(ratios) if ratios else None


def _rounds(content: Content, measurement: str, system: str, name: str) -> dict[str, float]:
    prefix = f"{measurement}/{system}/"
    return {
        key.removeprefix(prefix): figures[name]
        for key, figures in content["figures"].items()
        if key.startswith(prefix) and name in figures
    }


def figure(measurement: str, name: str, form: Format, *, of: str = "", spread: bool = False) -> Cell:
    """A median, with the number that it is part of, or with the least and the most of its rounds."""

    def cell(content: Content, system: str) -> str:
        values = values_of(content, measurement, system, name)
        if not values:
            return NOT_MEASURED
        text = form(median(values))
        if of:
            text += f" of {median(values_of(content, measurement, system, of)):,.0f}"
        if spread and len(values) > 1:
            text += f" ({form(min(values))} to {form(max(values))})"
        return text

    return cell


def markdown_table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def ms(duration: float) -> str:
    return f"{duration * 1000:,.2f} ms" if duration < 0.01 else f"{duration * 1000:,.0f} ms"


def us(duration: float) -> str:
    return f"{duration * 1e6:,.1f} µs"


def seconds(duration: float) -> str:
    return f"{duration:.2f} s"


def times(ratio: float) -> str:
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:,.0f} ×"


def percent(ratio: float) -> str:
    return f"{ratio * 100:.0f} %"


def tenths(ratio: float) -> str:
    return f"{ratio * 100:.1f} %"


def count(number: float) -> str:
    return f"{number:,.0f}"


def mb(number: float) -> str:
    return f"{number / 10**6:.0f} MB"


def mib(number: float) -> str:
    return f"{number / 2**20:.0f} MiB"
