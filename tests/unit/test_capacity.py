"""How big?: the formulas, the simulation they are compared with, and the document that shows both."""

import json
import math
from itertools import pairwise, takewhile
from typing import Any

import pytest

from slowpool import __main__, capacity
from slowpool.capacity import fewest, one_queue, shortest_queue
from slowpool.errors import ConfigError
from tests.bench import capacity as comparison
from tests.bench import report
from tests.bench.figures import median_of
from tests.bench.simulate import Pool, Shortest, Trace, at_load, poisson, simulate

pytestmark = pytest.mark.usefixtures("nothing_set")

LOAD = comparison.COMMAND.split()


class LeastConn(Shortest):
    """nginx's choice, with all weights 1: src/http/modules/ngx_http_upstream_least_conn_module.c."""

    def __init__(self, instances: int) -> None:
        self._conns = [0] * instances
        self._current_weight = [0] * instances

    def take(self) -> tuple[int, int]:
        least = min(self._conns)
        equal = [peer for peer, conns in enumerate(self._conns) if conns == least]
        best = equal[0]
        if len(equal) > 1:
            for peer in equal:
                self._current_weight[peer] += 1
                if self._current_weight[peer] > self._current_weight[best]:
                    best = peer
            self._current_weight[best] -= len(equal)
        self._conns[best] += 1
        return best, least

    def release(self, instance: int) -> None:
        self._conns[instance] -= 1


def test_the_costs_of_a_request_are_those_of_the_benchmark() -> None:
    content = json.loads(report.RESULTS.read_text())

    def cost(system: str, name: str) -> float:
        found = median_of(content, "cost", system, name)
        assert found
        return found

    nginx = cost("slowpool", "edge_cpu_seconds") - cost("slowpool", "direct_cpu_seconds")
    assert round(1000 / cost("slowpool-compose", "direct_per_second"), 2) == capacity.LOOP_MS
    assert round(1000 * cost("slowpool-compose", "direct_cpu_seconds"), 2) == capacity.INSTANCE_CPU_MS
    assert round(1000 * nginx, 2) == capacity.NGINX_CPU_MS


@pytest.mark.parametrize(("workers", "load"), [(1, 0.3), (2, 0.5), (20, 0.95), (150, 0.9)])
def test_one_queue_is_erlang_c(workers: int, load: float) -> None:
    offered = workers * load
    terms = [math.exp(k * math.log(offered) - math.lgamma(k + 1)) for k in range(workers + 1)]
    last = terms.pop() / (1 - load)
    found = next(wait for size, wait in one_queue(offered, 1) if size == workers)
    assert found.probability == pytest.approx(last / (sum(terms) + last))
    assert found.seconds_if_any == pytest.approx(1 / (workers - offered))


def test_jobs_that_all_take_as_long_wait_half_as_long_for_one_worker() -> None:
    _, random = next(one_queue(0.1, 5))
    _, constant = next(one_queue(0.1, 5, scv=0))
    assert random.mean_seconds == pytest.approx(0.5 / (1 - 0.5) * 5)  # Pollaczek–Khinchine
    assert constant.mean_seconds == pytest.approx(random.mean_seconds / 2)


def test_who_waits_for_one_instance_waits_for_one_of_its_jobs_and_as_in_one_queue() -> None:
    for each, scv, alone in ((1, 1, 1), (1, 0, 0.5), (4, 1, 0.25)):
        wait, one = (comparison.expected(100, 0.95, some, scv) for some in (each, 0))
        assert wait.seconds_if_any == pytest.approx(alone + one.seconds_if_any)
        assert one.mean_seconds < wait.mean_seconds < one.mean_seconds + alone


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("rate", [0, 0.01, 3, 150])
def test_no_fewer_workers_would_do(rate: float, each: int) -> None:
    workers, wait = fewest(2, shortest_queue(rate, 6, 1, each), each)
    assert workers % each == 0
    assert wait.p95_seconds <= 2
    below = takewhile(lambda found: found[0] < workers, shortest_queue(rate, 6, 1, each))
    smaller = [wait for size, wait in below if size % each == 0]
    assert all(wait.p95_seconds > 2 for wait in smaller)
    assert workers >= fewest(2, one_queue(rate, 6))[0]
    assert all(before.p95_seconds >= after.p95_seconds for before, after in pairwise([*smaller, wait]))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (LOAD[:-2], "the following arguments are required: --slow-p95-wait"),
        ([*LOAD, "--fast-rps", "-3"], "argument --fast-rps: -3 is not a number from 0 to 1,000,000,000"),
        ([*LOAD, "--slow-rps", "many"], "argument --slow-rps: many is not a number from 0 to 1,000,000,000"),
        ([*LOAD, "--slow-scv", "nan"], "argument --slow-scv: nan is not a number from 0 to 1,000,000,000"),
        ([*LOAD, "--load", "0"], "argument --load: 0 is not a share, above 0 and up to 1"),
        ([*LOAD, "--spare", "0.5"], "argument --spare: 0.5 is not a whole number"),
        ([*LOAD, "--slow-rps", "1e9"], "that is more than 1,000,000 slow jobs at a time"),
        ([*LOAD, "--cores", "3"], "unrecognized arguments: --cores 3"),
    ],
)
def test_bad_input_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as exit:
        __main__.main(["capacity", *arguments])
    assert exit.value.code == ConfigError.exit_status
    assert capsys.readouterr() == ("", f"slowpool: {complaint}\n")


def test_a_wrong_setting_is_one_clear_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_WORKERS", "-1")
    with pytest.raises(SystemExit) as exit:
        __main__.main(["capacity", *LOAD])
    assert exit.value.code == ConfigError.exit_status
    assert capsys.readouterr().err.startswith("slowpool: SLOW_WORKERS=-1: ")


def test_sizes_follow_from_the_load_and_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_WORKERS", "4")
    monkeypatch.setenv("SLOW_PROCESSES", "3")
    monkeypatch.setenv("FAST_PROCESSES", "4")
    found = as_json(
        capsys, *LOAD, "--load", "0.5", "--loop-ms", "4", "--instance-cpu-ms", "5", "--spare", "2"
    )
    assert found["fast_instances"] == 2000 * 0.004 / 0.5
    assert found["fast_replicas"] == 2000 * 0.004 / 0.5 / 4 + 2
    assert found["fast_cores"] == pytest.approx(2000 * 0.005 / 0.5)
    assert found["nginx_cores"] == pytest.approx(2003 * capacity.NGINX_CPU_MS / 1000 / 0.5)
    assert found["slow_workers"] == 4 * found["slow_instances"] >= found["slow_workers_at_best"] > 18
    assert found["slow_replicas"] == math.ceil(found["slow_instances"] / 3) + 2
    assert found["slow_cores"] == pytest.approx(found["slow_workers"] + 3 * 0.005 / 0.5)
    assert found["slow_wait_p95_seconds"] <= 2


def test_jobs_that_differ_more_need_more_workers(capsys: pytest.CaptureFixture[str]) -> None:
    workers = [as_json(capsys, *LOAD, "--slow-scv", scv)["slow_workers"] for scv in ("0", "4")]
    assert workers[0] < workers[1]


def test_the_simulation_is_right_where_the_formula_is_exact() -> None:
    found = at_load(Pool(instances=1, workers=4), 0.6, 60_000).figures()
    exact = comparison.expected(4, 0.6, 0)
    assert found["mean_wait"] == pytest.approx(exact.mean_seconds, rel=0.05)
    assert found["waited"] == pytest.approx(exact.probability, rel=0.05)


def test_the_simulated_shortest_queue_is_near_its_formula_and_not_one_queue() -> None:
    found = at_load(Pool(instances=20), 0.8, 60_000).figures()
    assert found["p95_wait"] == pytest.approx(comparison.expected(20, 0.8, 1).p95_seconds, rel=0.3)
    assert found["p95_wait"] > 2 * comparison.expected(20, 0.8, 0).p95_seconds


@pytest.mark.parametrize("choice", [Shortest, LeastConn])
def test_instances_that_are_equal_take_turns(choice: type[Shortest]) -> None:
    turns = choice(3)
    taken = []
    for _ in range(6):
        instance, _ = turns.take()
        turns.release(instance)
        taken.append(instance)
    assert taken == [0, 1, 2, 0, 1, 2]


def test_nginxs_own_way_to_choose_among_equals_makes_no_difference() -> None:
    """The tie break of the simulation against that of ngx_http_upstream_least_conn_module.c."""
    ours = at_load(Pool(instances=8), 0.9, 20_000).figures()
    pool = Pool(instances=8)
    trace = list(poisson(0.9 * 8, 1, 20_000))
    nginxs = simulate(pool, trace, warm_up=4000, turns=LeastConn(8)).figures()
    assert nginxs["mean_wait"] == pytest.approx(ours["mean_wait"], rel=0.1)
    assert nginxs["mean_wait"] != ours["mean_wait"]


def test_a_full_queue_refuses_and_a_late_job_is_given_up() -> None:
    """One worker, one place, two seconds from arrival to answer."""
    pool = Pool(instances=1, queue=1, timeout_seconds=2, fresh_worker_seconds=0.5)
    trace: Trace = [
        (0.0, 5.0),  # killed at 2.0; there is a fresh worker at 2.5
        (0.5, 1.0),  # waits until 2.5, when its time is up: given up
        (1.0, 1.0),  # refused
        (2.2, 0.1),  # refused: the second still waits
        (3.0, 1.0),  # answered at 4.0
        (3.5, 1.0),  # waits for 0.5 s and is answered
    ]
    outcome = simulate(pool, trace)
    assert outcome.waits == [0.0, 2.0, 0.0, 0.5]
    assert (outcome.answered, outcome.late, outcome.refused) == (2, 2, 2)


def test_jobs_wait_in_their_order_and_the_deadline_counts_from_their_arrival() -> None:
    outcome = simulate(Pool(instances=1, timeout_seconds=3), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
    assert outcome.waits == [0.0, 0.5, 1.5]
    assert (outcome.answered, outcome.late) == (2, 1)  # at 4.0, half a second before its end


def test_a_refused_job_is_not_open_any_more() -> None:
    busy = [(0.0, 1.0), (0.0, 9.0), *[(0.5, 1.0)] * 4]
    outcome = simulate(Pool(instances=2, queue=0), [*busy, (2.0, 1.0)])
    assert (outcome.answered, outcome.refused) == (3, 4)


def test_nothing_is_refused_while_an_instance_has_a_place() -> None:
    pool = Pool(instances=3, workers=2, queue=1)
    outcome = simulate(pool, [(0.001 * number, 10.0) for number in range(10)])
    assert (outcome.answered, outcome.refused) == (9, 1)
    assert sum(wait > 0 for wait in outcome.waits) == 3


def test_the_document_and_its_plots_are_of_the_figures() -> None:
    content = json.loads(comparison.RESULTS.read_text())
    _, _, rest = comparison.DOCUMENT.read_text().partition(comparison.BEGIN)
    shown, end, _ = rest.partition(comparison.END)
    assert end
    assert shown == comparison.section(content)
    plots = list(comparison.PLOTS.glob("*.svg"))
    assert {plot.name for plot in plots} == {"waits.svg", "real.svg"}
    for plot in plots:
        assert report.digest(content) in plot.read_text()
        assert f"(plots/{plot.name})" in shown


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert __main__.main(["capacity", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
