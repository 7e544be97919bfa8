"""How this project grows, and how much the generators can do."""

from tests.bench import systems
from tests.bench.loads import FAST_RATE, latencies, open_loop
from tests.bench.measure import throughput
from tests.bench.openloop import percentile
from tests.bench.options import Figures, Options
from tests.bench.running import HTTP_PORT, Running
from tests.bench.wrk import wrk


def growth(options: Options) -> Figures:
    """Fast throughput over instances, slow over workers, nginx over upstreams."""
    figures: Figures = {}
    ours = systems.named("slowpool")

    def edge() -> float:
        return wrk(f"http://127.0.0.1:{HTTP_PORT}/fast?id=1", seconds=options.half).per_second

    for count in (1, 2, 4):
        with systems.slowpool(FAST_PROCESSES=count):
            figures[f"fast_instances_{count}_per_second"] = edge()
    for count in (1, 2, 4):
        with systems.slowpool(SLOW_PROCESSES=1, SLOW_WORKERS=count, SLOW_QUEUE=16) as running:
            figures[f"slow_workers_{count}_ratio"] = throughput(ours, running, options, 0)["ratio"]
    for count in (2, 20, 100):
        with systems.listeners_behind_nginx(count):
            figures[f"upstream_servers_{count}_per_second"] = edge()
    return figures


def generators(options: Options) -> Figures:
    """The rate of the generators when nginx answers directly: far above the load of any measurement."""
    with systems.nginx_alone() as url:
        load = wrk(f"{url}/fast?id=1", seconds=options.half)
        running = Running(url, url, 0, list, list, list)
        answers = open_loop(running, "/fast?id=1", FAST_RATE, options.half)
        most = 4000
        many = open_loop(running, "/fast?id=1", most, options.half)
    needed = max(a.due_seconds + a.latency_seconds for a in many)
    return {
        "wrk_per_second": load.per_second,
        "open_loop_p50_seconds": percentile(latencies(answers), 50),
        "open_loop_p99_seconds": percentile(latencies(answers), 99),
        "open_loop_rate_per_second": most,
        "open_loop_reached_per_second": len(many) / needed,
    }
