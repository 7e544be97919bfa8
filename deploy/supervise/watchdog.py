"""supervisor's event listener: it logs what happens to the programs. A program that is FATAL ends everything,
a hung instance is killed, one that has grown too large is restarted.

What a dead program has left is killed too: the workers of an nginx that was killed would keep its ports.
Ending everything lets the engine restart the container, instead of leaving one that is up and does
nothing. A hung instance is killed at once and not asked to stop: it would not hear that. Its handler may
block for as long as clients ask for it, so these kills never end everything.
"""

import contextlib
import http.client
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import xmlrpc.client  # nosec B411  # supervisor answers, nobody else
from collections import Counter
from pathlib import Path
from typing import Any

from supervisor import childutils
from supervisor.xmlrpc import Faults

from deploy.supervise.restart import DoesNotComeBack, restart
from slowpool.config import Config, Pool
from slowpool.observe import logs

PROBE_INTERVAL_SECONDS = 1.0
FAST_HUNG_SECONDS = 10.0
"""A fast instance that does not answer ``/livez`` for this long is hung."""
SLOW_HUNG_MARGIN_SECONDS = 30.0
"""A slow one may compute inline for as long as a job may take, and this much longer."""
NGINX_HUNG_SECONDS = 30.0
"""nginx, in a local run, answers at once or not at all."""

MAX_STARTS_IN_VAIN = 4
"""Ends of a program in a row without an answer between them; supervisor itself counts only those that
come within a second of the start. Kills for having hung are not counted."""

MAX_STATUS_LINE_BYTES = 4096
"""What a probe reads at most."""

PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

log = logging.getLogger("watchdog")

starts_in_vain: Counter[str] = Counter()
killed: dict[str, int] = {}
"""The process of each program that was killed last for having hung."""
one_at_a_time = threading.Lock()
"""Held while an instance is restarted for its size."""


def main() -> None:
    """Speak the listener's protocol on stdin and stdout until supervisor ends this process."""
    config = Config.load()
    programs = os.environ["PROGRAMS"]
    logs.set_up(config, "" if programs == "*" else programs, "watchdog", sys.stderr)
    for pool, hung_seconds in (
        (Pool.FAST, FAST_HUNG_SECONDS),
        (Pool.SLOW, config.slow_timeout_seconds + SLOW_HUNG_MARGIN_SECONDS),
    ):
        if programs in (pool, "*"):
            for instance in config.instances(pool):
                name = f"{pool}:{pool}-{instance.port}"
                arguments = (name, instance.port, hung_seconds, config.instance_max_rss_bytes)
                threading.Thread(target=_watch, args=arguments, daemon=True).start()
    if programs == "*":
        arguments = ("nginx:nginx", config.admin_port, NGINX_HUNG_SECONDS, 0)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
    ending = False
    while True:
        headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
        event = childutils.get_headers(payload)
        name = f"{event['groupname']}:{event['processname']}"
        state = headers["eventname"].removeprefix("PROCESS_STATE_")
        level = logging.INFO if state == "STARTING" or event.get("expected") == "1" else logging.WARNING
        log.log(level, "%s is %s", name, state, extra={"pid": int(event.get("pid", 0))})
        if state == "EXITED":
            pid = int(event["pid"])
            # supervisor has made it the leader of a group, which is what it leaves behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if killed.pop(name, 0) != pid:
                starts_in_vain[name] += 1
        if not ending and (state == "FATAL" or starts_in_vain[name] >= MAX_STARTS_IN_VAIN):
            log.error("%s cannot be kept running: everything ends", name)
            _shut_down()
            ending = True
        childutils.listener.ok(sys.stdout)


def _shut_down() -> None:
    try:
        _supervisor().shutdown()
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SHUTDOWN_STATE:  # else it has been told already
            raise


def _supervisor() -> Any:
    """supervisor's XML-RPC interface; a connection belongs to one thread."""
    return childutils.getRPCInterface(os.environ).supervisor


def _watch(name: str, port: int, hung_seconds: float, max_rss_bytes: int) -> None:
    while True:
        time.sleep(PROBE_INTERVAL_SECONDS)
        try:
            _probe(port, hung_seconds)
            starts_in_vain[name] = 0
            if max_rss_bytes:
                _check_size(name, max_rss_bytes)
        except TimeoutError:
            log.error("%s has not answered for %g s: kill", name, hung_seconds)
            try:
                _kill(name)
            except Exception as error:  # it may have ended by itself, or supervisor is ending
                log.warning("%s: %s", name, error)
        except (xmlrpc.client.Error, OSError, http.client.HTTPException):
            # It does not listen: it starts, drains or has died, and supervisor knows which, unless that ends.
            pass


def _probe(port: int, timeout_seconds: float) -> None:
    """Ask for ``/livez`` and read the status line. Raises TimeoutError when it has not come in time."""
    deadline = time.monotonic() + timeout_seconds
    with socket.create_connection(("127.0.0.1", port), timeout_seconds) as connection:
        connection.sendall(PROBE)
        answer = b""
        while b"\n" not in answer:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(MAX_STATUS_LINE_BYTES - len(answer))
            if not data:
                raise ConnectionError("no status line")
            answer += data
    if not answer.startswith(b"HTTP/"):
        raise ConnectionError("no HTTP")


def _kill(name: str) -> None:
    supervisor = _supervisor()
    killed[name] = supervisor.getProcessInfo(name)["pid"]
    supervisor.signalProcess(name, "KILL")


def _check_size(name: str, max_rss_bytes: int) -> None:
    """Restart an instance that has grown too large, in a thread, since draining it takes its time.

    While another one is restarted, nothing happens; the next look finds it still too large.
    """
    statm = Path(f"/proc/{_supervisor().getProcessInfo(name)['pid']}/statm")
    rss_bytes = int(statm.read_text().split()[1]) * resource.getpagesize()
    if rss_bytes > max_rss_bytes and one_at_a_time.acquire(blocking=False):
        log.warning("%s has %d bytes of resident memory: restart", name, rss_bytes)
        threading.Thread(target=_restart, args=(name,), daemon=True).start()


def _restart(name: str) -> None:
    try:
        restart(_supervisor(), name)
    except DoesNotComeBack as error:
        log.error("%s does not come back: %s", name, error)
    except (xmlrpc.client.Fault, OSError, http.client.HTTPException):
        pass  # supervisor ends
    finally:
        one_at_a_time.release()


if __name__ == "__main__":
    main()
