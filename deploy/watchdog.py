"""supervisor's event listener: a program that is FATAL ends everything, a hung instance is killed.

What a dead program has left is killed too: the workers of an nginx that was killed would keep its ports.
Ending everything lets the engine restart the container, instead of leaving one that is up and does
nothing. A hung instance is killed at once and not asked to stop: it would not hear that.
"""

import contextlib
import http.client
import os
import signal
import sys
import threading
import time

from supervisor import childutils

from app.config import Config, Instance, Pool

PROBE_INTERVAL_SECONDS = 1.0
FAST_HUNG_SECONDS = 10.0
"""A fast instance that does not answer ``/livez`` for this long is hung."""
SLOW_HUNG_MARGIN_SECONDS = 30.0
"""A slow one may compute inline for as long as a job may take, and this much longer."""


def main() -> None:
    """Speak the listener's protocol on stdin and stdout until supervisor ends this process."""
    config = Config.load()
    programs = os.environ["PROGRAMS"]
    for pool, hung_seconds in (
        (Pool.FAST, FAST_HUNG_SECONDS),
        (Pool.SLOW, config.slow_timeout_seconds + SLOW_HUNG_MARGIN_SECONDS),
    ):
        if programs in (pool, "*"):
            for instance in config.instances(pool):
                threading.Thread(target=_watch, args=(instance, hung_seconds), daemon=True).start()
    while True:
        headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
        event = childutils.get_headers(payload)
        if headers["eventname"] == "PROCESS_STATE_EXITED":
            # supervisor has made it the leader of a group, which is what it leaves behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(event["pid"]), signal.SIGKILL)
        else:
            _log(f"{event['processname']} cannot be kept running: everything ends")
            childutils.getRPCInterface(os.environ).supervisor.shutdown()
        childutils.listener.ok(sys.stdout)


def _watch(instance: Instance, hung_seconds: float) -> None:
    while True:
        time.sleep(PROBE_INTERVAL_SECONDS)
        try:
            _probe(instance, hung_seconds)
        except TimeoutError:
            _log(f"{instance} has not answered for {hung_seconds:g} s: kill")
            name = f"{instance.pool}:{instance.pool}-{instance.port}"
            try:
                childutils.getRPCInterface(os.environ).supervisor.signalProcess(name, "KILL")
            except Exception as error:  # it may have ended by itself, or supervisor is ending
                _log(f"{instance}: {error}")
        except (OSError, http.client.HTTPException):
            # It does not listen: it starts, drains or has died, and supervisor knows which.
            pass


def _probe(instance: Instance, timeout_seconds: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=timeout_seconds)
    try:
        connection.request("GET", "/livez", headers={"Connection": "close"})
        connection.getresponse().read()
    finally:
        connection.close()


def _log(text: str) -> None:
    print(f"watchdog: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
