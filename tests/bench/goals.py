"""The goals of this project, each beside its figure."""

from tests.bench.figures import (
    Content,
    Format,
    markdown_table,
    mb,
    median_of,
    ms,
    percent,
    ratio_of,
    seconds,
    tenths,
    times,
    us,
)
from tests.bench.systems import OURS, SYSTEMS

Goal = tuple[str, float | None, Format, str, float | None]
"""Its name, what was measured, the form of both figures, ≤ or ≥, and what is to be reached."""


def goals(content: Content) -> str:
    """The section of the report; what was not measured is left out."""
    rows = [
        [name, form(measured), f"{sign} {form(goal)}", met(measured, sign, goal)]
        for name, measured, form, sign, goal in _goals(content)
        if measured is not None and goal is not None
    ]
    return "## Goals of this project\n\n" + markdown_table(["", "measured", "goal", ""], rows) if rows else ""


def met(measured: float, sign: str, goal: float) -> str:
    """In words."""
    return "met" if (measured <= goal if sign == "≤" else measured >= goal) else "**not met**"


def _goals(content: Content) -> list[Goal]:
    def value(measurement: str, name: str, system: str = "slowpool") -> float | None:
        return median_of(content, measurement, system, name)

    def once(measurement: str, name: str) -> float | None:
        found: dict[str, float] = content["figures"].get(measurement, {})
        return found.get(name)

    isolation = {system.name: value("isolation", "ratio", system.name) for system in SYSTEMS}
    high_rate = {name: value("isolation_at_high_rate", "ratio", name) for name in isolation}
    others = min((ratio for name, ratio in isolation.items() if ratio and name not in OURS), default=None)
    edge = ratio_of(content, "cost", "edge_per_second", "slowpool", "fastapi")
    supervision = value("cost", "edge_supervision_cpu_seconds")
    cancel, kill = "cancel_to_answer", "kill_to_answer"
    return [
        ("fast requests/s at the edge ÷ FastAPI on uvicorn, 2 workers each", edge, times, "≥", 1),
        ("one instance, direct, ÷ Tornado's own server", once("servers", "ratio"), times, "≥", 2),
        ("CPU of supervisor and what passes lines on, per request", supervision, us, "≤", 10e-6),
        ("goodput at 10 × overload ÷ capacity", value("overload", "goodput_ratio"), percent, "≥", 0.95),
        ("CPU of a refusal, whole system", value("overload", "refusal_cpu_seconds"), ms, "≤", 0.0005),
        ("fast p99 under overload ÷ idle", value("overload", "fast_ratio"), times, "≤", 1.20),
        ("fast p99, slow work on every core ÷ idle, local", isolation["slowpool"], times, "≤", 1.05),
        ("the same in compose", isolation["slowpool-compose"], times, "≤", 1.10),
        ("the same at 1,000 fast requests/s, local", high_rate["slowpool"], times, "≤", 1.15),
        ("the same at 1,000 fast requests/s, in compose", high_rate["slowpool-compose"], times, "≤", 1.30),
        (
            "at 300 fast requests/s, the best of those without this project's workers (to be higher)",
            others,
            times,
            "≥",
            isolation["slowpool"],
        ),
        ("requests/s from 1 to 2 instances, generator aside", once("scaling", "ratio"), times, "≥", 1.6),
        (
            "loop watch, metrics and history, of a fast request",
            once("watching", "watch_share"),
            tenths,
            "≤",
            0.04,
        ),
        ("CPU burnt per abandoned job", value("waste", "cpu_seconds_per_job"), seconds, "≤", 0.1),
        ("refusals, p99", value("overload", "refusal_p99_seconds"), ms, "≤", 0.05),
        ("slow throughput ÷ bare multiprocessing.Pool", value("throughput", "ratio"), percent, "≥", 0.95),
        *[
            (name, once("slow_pool", figure), form, sign, goal)
            for name, figure, form, sign, goal in (
                ("the same without HTTP", "throughput_ratio", percent, "≥", 0.98),
                ("dispatch of an empty task", "dispatch_seconds", ms, "≤", 0.0003),
                ("client gone to dead worker", "client_gone_to_dead_worker_seconds", ms, "≤", 0.05),
                ("cancel to the answer of a fresh worker", f"{cancel}_forked_seconds", ms, "≤", 0.008),
                ("`kill -9` of an idle worker to the same", f"{kill}_forked_seconds", ms, "≤", 0.008),
                (
                    "cancel to the same, with numpy and a model of 400 MB",
                    f"{cancel}_loaded_forked_seconds",
                    ms,
                    "≤",
                    0.015,
                ),
                (
                    "`kill -9` to the same, with numpy and the model",
                    f"{kill}_loaded_forked_seconds",
                    ms,
                    "≤",
                    0.015,
                ),
                (
                    "memory of a slow instance with 8 workers and the model (PSS)",
                    "memory_of_8_workers_bytes",
                    mb,
                    "≤",
                    496e6,
                ),
                ("503 of a full pool, at the instance", "refusal_at_the_instance_seconds", ms, "≤", 0.005),
            )
        ],
    ]
