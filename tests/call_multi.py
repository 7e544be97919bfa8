"""Ask for 3 slow results and then 20 fast ones, all at once, and print them as they return.

    python tests/call_multi.py slow_threaded
    python tests/call_multi.py slow --url https://localhost:8443 --insecure --n 6000
    python tests/call_multi.py stall

``stall`` is a route of the fast pool that blocks. Requests for it are first sent until it has blocked each
fast instance, which then hands the route over. Then come 4 requests for it, of about 3 s each, and the fast
ones.

The exit status is 0 when every request was answered 200. It needs Python alone.
"""

import argparse
import http.client
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

SLOW = 3
FAST = 20
N = 6000
TIMEOUT_SECONDS = 120

STALL = "stall"
STALLED = 4
STALL_N = 7500
LEARN_N = 4000
"""Blocks an instance for some 0.5 s, more than FAST_BLOCK_BUDGET_SECONDS."""

LEARN_TRIES = 60

printing = threading.Lock()


@dataclass
class Call:
    """One request and what became of it; ``seconds`` counts from the start of the first request."""

    target: str
    text: str = ""
    served_by: str = "-"
    seconds: float = 0.0
    answered: bool = False


def main() -> int:
    """Send the requests of the command line; returns the exit status."""
    summary, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("route", help="the slow route, such as slow, slow_threaded or slow/executor")
    parser.add_argument("--url", default="http://localhost:8080", help="of the system (%(default)s)")
    parser.add_argument("--n", type=int, help=f"size of the slow work ({N}; for stall {STALL_N})")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate, for https")
    options = parser.parse_args()
    try:
        connect = connector(options.url, insecure=options.insecure)
    except ValueError as error:
        parser.error(str(error))

    route, count, n = options.route.strip("/"), SLOW, options.n or N
    if route == STALL:
        count, n = STALLED, options.n or STALL_N
        if not learned(connect):
            print(f"/{STALL} still blocks the fast pool after {LEARN_TRIES} requests")
            return 1
    slow = [Call(f"/{route}?id={i}&n={n}") for i in range(1, count + 1)]
    fast = [Call(f"/fast?id={i}") for i in range(1, FAST + 1)]
    start = time.monotonic()
    threads = [threading.Thread(target=ask, args=(connect, call, start)) for call in slow + fast]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    print()
    print(f"last fast result   {max(call.seconds for call in fast):7.3f} s")
    print(f"first slow result  {min(call.seconds for call in slow):7.3f} s")
    print(f"last slow result   {max(call.seconds for call in slow):7.3f} s")
    failed = [call for call in slow + fast if not call.answered]
    if failed:
        print(f"{len(failed)} of {len(slow + fast)} requests failed")
    return 1 if failed else 0


def learned(connect: Callable[[], http.client.HTTPConnection]) -> bool:
    """Ask for the route that blocks, one request at a time, until no fast instance answers it any more.

    Returns whether that came about. nginx gives requests that come one at a time to each instance in turn.
    """
    start, in_a_row = time.monotonic(), 0
    fast: set[str] = set()
    for _ in range(LEARN_TRIES):
        call = Call(f"/{STALL}?id=0&n={LEARN_N}")
        ask(connect, call, start)
        in_a_row = in_a_row + 1 if call.served_by.startswith("slow:") else 0
        if call.served_by.startswith("fast:"):
            fast.add(call.served_by)
        if in_a_row >= 2 * max(2, len(fast)):
            print(flush=True)
            return True
    return False


def connector(url: str, *, insecure: bool) -> Callable[[], http.client.HTTPConnection]:
    """What makes a connection to the system. Raises ValueError when it is no such URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url {url}: write it like http://localhost:8080 or https://shop.example")
    host, port = parts.hostname, parts.port
    if parts.scheme == "http":
        return lambda: http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return lambda: http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def ask(connect: Callable[[], http.client.HTTPConnection], call: Call, start: float) -> None:
    """Send one request, note its answer and print it."""
    connection = connect()
    try:
        connection.request("GET", call.target)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
        call.answered = response.status == 200
        call.text = body if call.answered else f"{call.target}: {response.status} {body}"
        call.served_by = response.headers.get("X-Served-By", "-")
    except (OSError, http.client.HTTPException) as error:
        call.text = f"{call.target}: {error}"
    finally:
        connection.close()
    with printing:
        call.seconds = time.monotonic() - start
        print(f"{call.seconds:7.3f} s  {call.served_by:10}  {call.text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
