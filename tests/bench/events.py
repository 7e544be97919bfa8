"""``python -m tests.bench.events``: CPU time of nginx with and without its log of events, and of events.awk.

Two nginx in front of the same instances, one without the log, answer ordinary requests in turns. Then the
lines of 10,000 refused requests a second are written into the pipe of the first.
"""

import http.client
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.basics import ROOT
from tests.support.nginx import Nginx, awks_of, nginx
from tests.support.upstream import Edge

ROUNDS, REQUESTS = 80, 700
FLOOD_SECONDS, LINES = 20, 10_000
LINE = b"8080|429|nginx|fast||||\n"


def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory(prefix="slowpool-") as name, Edge(Path(name) / "with") as edge:
        source = Path(name) / "nginx"
        shutil.copytree(ROOT / "nginx", source)
        (source / "server" / "event_log.conf").write_text("# none\n")
        with nginx(Path(name) / "without", edge.settings, source=source) as without:
            ratios = _ratios(edge.nginx, without)
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f"CPU time of nginx, with / without: {median:.3f}, quartiles {low:.3f} and {high:.3f}")
        print(f"events.awk, {LINES} lines a second: {_flood(edge.nginx):.2%} of a core")


def _ratios(one: Nginx, other: Nginx) -> list[float]:
    connections = {server: http.client.HTTPConnection("127.0.0.1", server.port) for server in (one, other)}

    def cpu_seconds(server: Nginx) -> float:
        before = _run_seconds(server)
        for _ in range(REQUESTS):
            connections[server].request("GET", "/fast?id=7")
            assert connections[server].getresponse().read()
        return _run_seconds(server) - before

    for server in (one, other):
        cpu_seconds(server)
    return [cpu_seconds(one) / cpu_seconds(other) for _ in range(ROUNDS)]


def _run_seconds(server: Nginx) -> float:
    """The CPU time of nginx's worker processes, to the nanosecond."""
    workers = psutil.Process(server.pid).children()
    return sum(int(Path(f"/proc/{one.pid}/schedstat").read_text().split()[0]) for one in workers) / 1e9


def _flood(server: Nginx) -> float:
    """The share of a core of events.awk and all that it starts."""
    (awk,) = awks_of(server, "events.awk")
    batch = LINE * (4096 // len(LINE))
    pipe = os.open(server.folder / "events", os.O_WRONLY)
    before, start, sent = sum(awk.cpu_times()), time.monotonic(), 0
    while (passed := time.monotonic() - start) < FLOOD_SECONDS:
        while sent < passed * LINES:
            sent += os.write(pipe, batch) // len(LINE)
        time.sleep(0.005)
    os.close(pipe)
    return (sum(awk.cpu_times()) - before) / passed


if __name__ == "__main__":
    main()
