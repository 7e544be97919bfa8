"""What the README and the report show is what the benchmark has measured."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from tests.bench import report
from tests.bench.openloop import open_loop, percentile

CONTENT = json.loads(report.RESULTS.read_text())


def test_the_readme_has_the_table_of_these_figures() -> None:
    _, _, rest = report.README.read_text().partition(report.BEGIN)
    shown, end, _ = rest.partition(report.END)
    assert end
    assert shown == report.readme_table(CONTENT)


def test_the_report_is_of_these_figures() -> None:
    assert (report.HERE / "REPORT.md").read_text() == report.report(CONTENT)


def test_the_plots_are_of_these_figures() -> None:
    plots = set(report.PLOT.parent.iterdir())
    assert report.PLOT in plots
    for plot in plots:
        assert report.digest(CONTENT) in plot.read_text()


def test_the_open_loop_counts_from_when_a_request_was_due() -> None:
    """Requests that are due while the server stands still have waited for it."""
    answered: list[float] = []

    def answer() -> tuple[int, dict[str, str]]:
        answered.append(time.perf_counter())
        if len(answered) == 1:
            time.sleep(0.5)
        return 200, {}

    with served(answer) as url:
        answers = open_loop(url, rate=50, seconds=1)
    assert len(answers) == 50
    assert {a.status for a in answers} == {200}
    latencies = sorted(a.latency_seconds for a in answers)
    assert latencies[-1] >= 0.5
    # At 50 a second some 25 were due meanwhile; a closed loop would have seen one slow answer.
    assert sum(latency > 0.1 for latency in latencies) >= 15


def test_the_open_loop_reports_refusals_and_failures() -> None:
    with served(lambda: (503, {"Retry-After": "7", "X-Served-By": "slow:1"})) as url:
        (refused,) = open_loop(url, rate=1, seconds=1)
    assert (refused.status, refused.retry_after_seconds, refused.served_by) == (503, 7, "slow:1")
    (failed,) = open_loop(url, rate=1, seconds=1)  # nothing listens there any more
    assert failed.status == 0


def test_a_percentile_is_the_nearest_rank() -> None:
    assert percentile(range(1, 101), 50) == 50
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3.0], 99.9) == 3.0


@contextmanager
def served(answer: Callable[[], tuple[int, dict[str, str]]]) -> Iterator[str]:
    """A server that does one request at a time; its URL."""
    one_at_a_time = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with one_at_a_time:
                status, headers = answer()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
