"""How the benchmark gets from what it has seen to its figures."""

import re
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from tests.bench import cpu, goals, report
from tests.bench.figures import median_of, ratio_of
from tests.bench.instances import per_core
from tests.bench.overload import Others
from tests.bench.running import ROOT, UPSTREAM_HEADERS, Running, nginx_config
from tests.bench.systems import named
from tests.bench.visits import visits
from tests.bench.wrk import Load


def test_a_ratio_of_two_systems_is_of_the_rounds_that_both_have() -> None:
    """The machine may be twice as fast in another round."""
    found = {
        "figures": {
            "cost/slowpool/0": {"rate": 10.0},
            "cost/fastapi/0": {"rate": 20.0},
            "cost/slowpool/1": {"rate": 300.0},
            "cost/fastapi/1": {"rate": 100.0},
            "cost/slowpool/2": {"rate": 40.0},
            "cost/fastapi/2": {"rate": 40.0},
            "cost/slowpool/3": {"rate": 1000.0},
        }
    }
    assert ratio_of(found, "cost", "rate", "slowpool", "fastapi") == 1.0
    assert ratio_of(found, "cost", "rate", "slowpool", "granian") is None
    assert median_of(found, "cost", "slowpool", "rate") == 170.0


def test_requests_of_two_instances_are_counted_for_the_cores_that_the_generator_leaves() -> None:
    one = Load(per_second=1000, requests=5000, seconds=5, generator_seconds=1)
    assert per_core(one, 1, cores=2) == 1000  # it has 1.8 cores for itself and can use one
    two = Load(per_second=1600, requests=8000, seconds=5, generator_seconds=2)
    assert per_core(two, 2, cores=2) == 1000  # 0.4 of the two cores are the generator's
    assert per_core(two, 2, cores=8) == 800


def test_systems_take_turns_and_what_is_measured_already_is_left_out() -> None:
    chosen = [named(name) for name in ("slowpool", "fastapi", "tornado")]
    done = {"cost/fastapi/0", "faults/slowpool/0"}
    planned = [
        (turn, system.name, [measured.__name__ for measured in measurements])
        for turn, system, measurements in visits(chosen, ["cost", "waste", "faults"], 5, done.__contains__)
    ]
    assert planned == [
        (0, "slowpool", ["cost"]),
        (0, "tornado", ["cost"]),
        (0, "slowpool", ["waste"]),
        (0, "fastapi", ["waste"]),
        (0, "tornado", ["waste"]),
        (0, "fastapi", ["faults"]),
        (0, "tornado", ["faults"]),
        (1, "fastapi", ["cost"]),
        (1, "slowpool", ["cost"]),
        (2, "slowpool", ["cost"]),  # the third system of this round is not measured so often
        (2, "fastapi", ["cost"]),
    ]


def test_the_cpu_time_of_others_is_without_workers_and_with_what_has_begun_since() -> None:
    before = {cpu.Process(1, 0.0): 5.0, cpu.Process(2, 0.0): 7.0, cpu.Process(3, 0.0): 1.0}
    after = {
        cpu.Process(1, 0.0): 6.0,
        cpu.Process(2, 0.0): 9.0,  # a worker
        cpu.Process(3, 8.0): 0.25,  # another process with a pid that was free again
        cpu.Process(4, 8.0): 0.5,
    }
    assert cpu.spent(before, after, without={2}) == 1.75


def test_the_cpu_time_of_a_process_is_seen_while_it_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        process = psutil.Process(busy.pid)
        before, threads = cpu.by_process([process]), cpu.of_threads(busy.pid)
        while process.cpu_times().user < 0.2:
            pass
        assert cpu.spent(before, cpu.by_process([process])) > 0.1
        assert cpu.of_threads(busy.pid) - threads > 0.1
        busy.kill()
    assert cpu.by_process([process]) == {}


def test_refusals_are_not_charged_for_workers_nor_for_what_an_idle_system_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle, worker = cpu.Process(1, 0.0), cpu.Process(2, 0.0)
    now = 0.0

    # The idle process takes a tenth of a core, and 3 s beside that once it refuses.
    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(perf_counter=lambda: now, sleep=sleep)
    monkeypatch.setattr("tests.bench.overload.time", clock)
    refusing = 0.0
    monkeypatch.setattr(cpu, "by_process", lambda _: {idle: now / 10 + refusing, worker: now})

    running = Running("", "", 0, list, lambda: [SimpleNamespace(pid=2)], list)  # type: ignore[list-item]
    others = Others(running)
    refusing = 3.0
    now += 20
    assert others.seconds() == pytest.approx(3.0)


def test_the_goals_are_met_or_not() -> None:
    found = {
        "figures": {
            "servers": {"ratio": 1.99},
            "scaling": {"ratio": 1.6},
            "watching": {"watch_share": 0.041},
            "cost/slowpool/0": {"edge_per_second": 9000.0, "edge_supervision_cpu_seconds": 4e-6},
            "cost/fastapi/0": {"edge_per_second": 9000.0},
            "overload/slowpool/0": {"refusal_cpu_seconds": 0.0006, "goodput_ratio": 0.95, "fast_ratio": 1.2},
            "isolation/slowpool/0": {"ratio": 1.06},
            "isolation/slowpool-compose/0": {"ratio": 1.1},
        }
    }
    rows = dict(re.findall(r"^\| (.+?) \| .* \| (.+?) \|$", goals.goals(found), re.MULTILINE))
    assert rows == {
        "---": "---",
        "fast requests/s at the edge ÷ FastAPI on uvicorn, 2 workers each": "met",
        "one instance, direct, ÷ Tornado's own server": "**not met**",
        "CPU of supervisor and what passes lines on, per request": "met",
        "goodput at 10 × overload ÷ capacity": "met",
        "CPU of a refusal, whole system": "**not met**",
        "fast p99 under overload ÷ idle": "met",
        "fast p99, slow work on every core ÷ idle, local": "**not met**",
        "the same in compose": "met",
        "requests/s from 1 to 2 instances, generator aside": "met",
        "loop watch, metrics and history, of a fast request": "**not met**",
    }


def test_a_request_past_nginx_has_the_headers_that_nginx_adds() -> None:
    proxy = (ROOT / "nginx" / "location" / "proxy.conf").read_text()
    added = set(re.findall(r"^proxy_set_header (X-[\w-]+|traceparent) ", proxy, re.MULTILINE))
    of_some_requests = {"X-Slowpool-Elapsed", "X-Slowpool-Streamed", "X-Slowpool-Asks"}
    of_some_requests |= {"X-Slowpool-Act", "X-Slowpool-User"}
    assert added - of_some_requests == UPSTREAM_HEADERS.keys()


def test_the_nginx_of_the_peers_logs_as_this_project_does() -> None:
    ours = (ROOT / "nginx" / "http" / "logging.conf").read_text()
    buffered = (ROOT / "nginx" / "templates" / "access_log.conf").read_text()
    log_format = ours[ours.index("log_format json") : ours.index(";", ours.index("log_format json"))]
    peers = nginx_config([9401])
    assert log_format in peers
    options = re.search(r"^access_log @ACCESS_LOG@ @LOG_FORMAT@ (.*);$", buffered, re.MULTILINE)
    assert options
    assert f"access_log access.log json {options[1]};" in peers


def test_the_report_of_a_run_with_only_some_measurements_can_be_written() -> None:
    found = {
        "figures": {
            "servers": {
                f"{name}_{figure}": 0.0001
                for name in ("slowpool", "tornado")
                for figure in ("per_second", "cpu_seconds")
            }
            | {"ratio": 2.0},
            "watching": {f"{name}_share": 0.03 for name in ("watch", "loop_watch", "metrics", "noise")},
            "scaling": {
                "one_per_second": 9000.0,
                "two_per_second": 14000.0,
                "generator_cores": 0.4,
                "ratio": 1.9,
                "bare_ratio": 1.95,
            },
        }
    }
    text = report.report({**found, "heads": {}, "options": {}})
    assert "answers 2.00 × the requests." in text
    assert "| nothing: two equal instances, the error of this measurement | 3.0 % |" in text
    assert "1.90 × for each core" in text
