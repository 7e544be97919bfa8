"""What accepted jobs cost: ``python -m tests.bench.accepted``.

How long the 202 takes, alone and at a steady rate of empty jobs, and whether these keep up.
"""

import argparse
import http.client
import json
import tempfile
import threading
import time
from datetime import datetime
from statistics import median

from tests.bench import systems
from tests.bench.openloop import percentile
from tests.bench.running import HTTP_PORT

TARGET = "/slow_threaded?id=7&n=1"
HEADERS = {"Prefer": "respond-async"}
CLIENTS = 10
ALONE = 300
"""Requests, one after the other."""


class Client:
    """One connection, on which requests are accepted."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.jobs: list[str] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT)

    def ask(self) -> None:
        """Have one accepted. Raises RuntimeError for another answer."""
        start = time.perf_counter()
        status, headers, _ = self._get(TARGET, HEADERS)
        if status != 202:
            raise RuntimeError(f"answered {status}")
        self.seconds.append(time.perf_counter() - start)
        self.jobs.append(headers["Location"])

    def ask_at(self, per_second: float, seconds: float) -> None:
        """The same at a steady rate."""
        end = due = time.monotonic()
        end += seconds
        while due < end:
            time.sleep(max(0, due - time.monotonic()))
            self.ask()
            due += 1 / per_second

    def whole_seconds(self, job: str) -> float:
        """From its acceptance to its end, which it waits for."""
        while True:
            _, _, body = self._get(job, {})
            found = json.loads(body)
            if found["ended"]:
                begin, end = (datetime.fromisoformat(found[name]) for name in ("created", "ended"))
                return (end - begin).total_seconds()
            time.sleep(0.05)

    def _get(self, target: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request("GET", target, headers=headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=200, help="empty jobs per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--jobs-url", help="the store; by default a file in a folder of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.jobs_url or f"sqlite://{folder}/jobs.sqlite"
        with systems.slowpool(JOBS_URL=url, JOB_QUEUE=100_000):
            alone = Client()
            for _ in range(ALONE):
                alone.ask()
            print(f"202, one after the other: median {median(alone.seconds) * 1000:.2f} ms")
            clients = [Client() for _ in range(CLIENTS)]
            threads = [
                threading.Thread(target=client.ask_at, args=(options.rate / CLIENTS, options.seconds))
                for client in clients
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = [one for client in clients for one in client.seconds]
            last = [client.whole_seconds(client.jobs[-1]) for client in clients]
            middle = [client.whole_seconds(client.jobs[len(client.jobs) // 2]) for client in clients]
            print(
                f"202 at {options.rate:g}/s: median {median(seconds) * 1000:.2f} ms, "
                f"p99 {percentile(seconds, 99) * 1000:.2f} ms, {len(seconds)} jobs"
            )
            print(
                f"to the end of an empty job: {median(middle) * 1000:.0f} ms in the middle, "
                f"{median(last) * 1000:.0f} ms at the end"
            )


if __name__ == "__main__":
    main()
