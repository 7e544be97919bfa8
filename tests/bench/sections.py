"""The sections of the report with a table of all systems; braces in a text stand for options of the run."""

from tests.bench.figures import Cell, count, figure, mib, ms, percent, seconds, times, us


def _isolation_columns(measurement: str) -> dict[str, Cell]:
    columns = {
        f"{half} {name}": figure(measurement, f"{half}_{name}_seconds", ms)
        for half in ("idle", "saturated")
        for name in ("p50", "p99", "p99.9")
    }
    columns["p99 ratio"] = figure(measurement, "ratio", times, spread=True)
    columns["failed"] = figure(measurement, "saturated_failed", count)
    return columns


SECTIONS: dict[str, tuple[str, str, dict[str, Cell]]] = {
    "isolation": (
        "Isolation",
        "Fast requests at 300/s in an open loop, each latency measured from the time at which the request was due; idle, and with "
        "four slow requests of about a second always open. Medians over alternating rounds, of which slowpool has more than the others; each system is started anew for each round and warmed up for {warm_up:g} s.",
        _isolation_columns("isolation"),
    ),
    "isolation_at_high_rate": (
        "Isolation at a high rate",
        "The same with 1,000 fast requests/s.",
        _isolation_columns("isolation_at_high_rate"),
    ),
    "three_and_twenty": (
        "3 slow and 20 fast requests, all at once",
        "`tests/call_multi.py`; slow requests of about a second.",
        {
            "last fast answer": figure("three_and_twenty", "last_fast_seconds", ms),
            "first slow answer": figure("three_and_twenty", "first_slow_seconds", seconds),
            "last slow answer": figure("three_and_twenty", "last_slow_seconds", seconds),
        },
    ),
    "throughput": (
        "Slow throughput",
        "Jobs of about 0.05 s from two clients for each core, against a bare `multiprocessing.Pool` with a process "
        "for each core just before; and what a slow request costs beyond a fast one when its job is empty.",
        {
            "jobs/s": figure("throughput", "jobs_per_second", lambda rate: f"{rate:.1f}"),
            "÷ bare pool": figure("throughput", "ratio", percent, spread=True),
            "dispatch": figure("throughput", "dispatch_seconds", ms),
        },
    ),
    "waste": (
        "Waste",
        "{clients_that_leave:g} clients ask for jobs of {abandoned_job:g} s and go away after 1 s: the CPU time that the machine burns from then on.",
        {"CPU time per abandoned job": figure("waste", "cpu_seconds_per_job", seconds)},
    ),
    "overload": (
        "Overload",
        "Ten times the slow requests that a bare pool could do, in an open loop: half of {overload:g} s without other load, for goodput and "
        "refusals, then as long beside fast requests at 300/s. A request without an answer 10 s after the end has failed. "
        "The error of `Retry-After` is against the time that the jobs ahead took; a whole number of seconds cannot "
        "do better than 0 to 1. The CPU time of a refusal is that of the system in the first half without its workers, nor what it takes while it "
        "is idle, ÷ the refusals; so it includes what the accepted jobs cost outside of the workers.",
        {
            "goodput": figure("overload", "goodput_ratio", percent),
            "refused": figure("overload", "refused", count, of="sent"),
            "failed": figure("overload", "failed", count, of="sent"),
            "refusal p50": figure("overload", "refusal_p50_seconds", ms),
            "p99": figure("overload", "refusal_p99_seconds", ms),
            "CPU of a refusal": figure("overload", "refusal_cpu_seconds", ms),
            "Retry-After error, median": figure("overload", "retry_after_error_p50_seconds", seconds),
            "fast p99": figure("overload", "fast_p99_seconds", ms),
            "÷ idle": figure("overload", "fast_ratio", times),
        },
    ),
    "faults": (
        "Faults",
        "`kill -9` of one process that does slow work, then of one that answers fast requests, under 300 fast and "
        "5 slow requests a second.",
        {
            f"{victim} killed: {column}": figure("faults", f"{victim}_{name}", form, of=of)
            for victim in ("worker", "instance")
            for column, name, form, of in (
                ("fast failed", "fast_failed", count, f"{victim}_fast_sent"),
                ("slow failed", "slow_failed", count, f"{victim}_slow_sent"),
                ("failing for", "failing_seconds", seconds, ""),
            )
        },
    ),
    "cost": (
        "Cost",
        "Fast requests at saturation by `wrk` with 32 connections on the same cores, through nginx where there is "
        "one, and past it; CPU time of the whole machine less that of wrk; unshared memory of the idle system. At the "
        "edge a request has one access line: nginx's, in the same format and as buffered for all, or that of the instance where "
        "there is no nginx. Past nginx no system writes one: requests have the headers that nginx would add, which "
        "tell an instance of this project that nginx logs. There slowpool and the four processes answer with one "
        "instance, servers with two workers on one port with both.",
        {
            "at the edge": figure("cost", "edge_per_second", lambda rate: f"{rate:,.0f}/s"),
            "CPU each": figure("cost", "edge_cpu_seconds", ms),
            "of that supervisor and log": figure("cost", "edge_supervision_cpu_seconds", us),
            "direct": figure("cost", "direct_per_second", lambda rate: f"{rate:,.0f}/s"),
            "direct, CPU each": figure("cost", "direct_cpu_seconds", ms),
            "processes": figure("cost", "processes", count),
            "memory, idle": figure("cost", "idle_bytes", mib),
            "per instance": figure("cost", "instance_bytes", mib),
            "start to first answer": figure("cost", "start_seconds", seconds),
        },
    ),
}
