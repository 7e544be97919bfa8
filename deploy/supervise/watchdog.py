"""supervisor's event listener: logs each change of a program's state and keeps the programs healthy.

- A program that is FATAL, or that exits again and again without ever answering, shuts everything down. The
  engine then restarts the container, instead of leaving one that is up and does nothing.
- A hung instance is killed, since it would not react to SIGTERM. Clients can make a handler block as often
  as they like, so these kills never shut everything down.
- An instance that has grown too large is drained and restarted.
- The process group of an exited program is killed: the workers of a killed nginx would keep its ports.
"""

import contextlib
import http.client
import logging
import os
import resource
import signal
import sys
import threading
import time
import xmlrpc.client  # nosec B411  # only supervisor answers
from collections import Counter
from pathlib import Path
from typing import Any

from supervisor import childutils
from supervisor.xmlrpc import Faults

from deploy.supervise.probe import status_of
from deploy.supervise.restart import RestartError, restart
from slowpool.config import Config, Pool
from slowpool.observe import logs

PROBE_INTERVAL_SECONDS = 1.0
FAST_HUNG_SECONDS = 10.0
"""A fast instance that does not answer ``/-/livez`` for this long is hung."""
SLOW_HUNG_MARGIN_SECONDS = 30.0
"""A slow instance may compute inline for the timeout of a job, and this much longer."""
NGINX_HUNG_SECONDS = 30.0
"""nginx of a local run; it answers at once or not at all."""

MAX_EXITS_IN_VAIN = 4
"""Exits of a program in a row without an answer in between. supervisor itself counts only those within a
second of the start. Kills of a hung instance do not count."""

log = logging.getLogger("watchdog")

exits_in_vain: Counter[str] = Counter()
killed: dict[str, int] = {}
"""Program -> the process that was last killed because it hung."""
restarting = threading.Lock()
"""Held while an instance is restarted because of its size."""


def main() -> None:
    """Speak the listener's protocol on stdin and stdout until supervisor ends this process."""
    config = Config.load()
    programs = os.environ["SLOWPOOL_PROGRAMS"]
    logs.set_up(config, "" if programs == "*" else programs, "watchdog", sys.stderr)
    _start_watching(config, programs)
    shutting_down = False
    while True:
        headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
        event = childutils.get_headers(payload)
        name = f"{event['groupname']}:{event['processname']}"
        state = headers["eventname"].removeprefix("PROCESS_STATE_")
        pid = int(event.get("pid", 0))
        level = logging.INFO if state == "STARTING" or event.get("expected") == "1" else logging.WARNING
        log.log(level, "%s is %s", name, state, extra={"pid": pid})
        if state == "EXITED":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # supervisor makes each program the leader of a group
            if killed.pop(name, 0) != pid:
                exits_in_vain[name] += 1
        if not shutting_down and (state == "FATAL" or exits_in_vain[name] >= MAX_EXITS_IN_VAIN):
            log.error("%s cannot be kept running: shutting everything down", name)
            _shut_down()
            shutting_down = True
        childutils.listener.ok(sys.stdout)


def _start_watching(config: Config, programs: str) -> None:
    """Start a thread for each program that has a port."""
    hung_seconds = {
        Pool.FAST: FAST_HUNG_SECONDS,
        Pool.SLOW: config.slow_timeout_seconds + SLOW_HUNG_MARGIN_SECONDS,
    }
    watched = [
        (f"{pool}:{pool}-{instance.port}", instance.port, "/-/livez", seconds, config.instance_max_rss_bytes)
        for pool, seconds in hung_seconds.items()
        if programs in (pool, "*")
        for instance in config.instances(pool)
    ]
    if programs == "*":
        watched.append(("nginx:nginx", config.admin_port, "/livez", NGINX_HUNG_SECONDS, 0))
    for arguments in watched:
        threading.Thread(target=_watch, args=arguments, daemon=True).start()


def _watch(name: str, port: int, path: str, hung_seconds: float, max_rss_bytes: int) -> None:
    while True:
        time.sleep(PROBE_INTERVAL_SECONDS)
        try:
            status_of(port, path, hung_seconds)
            exits_in_vain[name] = 0
            if max_rss_bytes:
                _check_size(name, max_rss_bytes)
        except TimeoutError:
            log.error("%s has not answered for %g s: killing it", name, hung_seconds)
            try:
                _kill(name)
            except Exception as error:  # it may have exited meanwhile, or supervisor is shutting down
                log.warning("%s: %s", name, error)
        except (xmlrpc.client.Error, OSError, http.client.HTTPException):
            pass  # it starts, drains or has exited, which supervisor knows, or supervisor is shutting down


def _kill(name: str) -> None:
    supervisor = _supervisor()
    killed[name] = supervisor.getProcessInfo(name)["pid"]
    supervisor.signalProcess(name, "KILL")


def _check_size(name: str, max_rss_bytes: int) -> None:
    """Restart an instance that is too large, in a thread of its own, since draining takes a while.

    While another instance is restarted, do nothing: the next check finds this one still too large.
    """
    statm = Path(f"/proc/{_supervisor().getProcessInfo(name)['pid']}/statm")
    rss_bytes = int(statm.read_text().split()[1]) * resource.getpagesize()
    if rss_bytes > max_rss_bytes and restarting.acquire(blocking=False):
        log.warning("%s has %d bytes of resident memory: restarting it", name, rss_bytes)
        threading.Thread(target=_restart, args=(name,), daemon=True).start()


def _restart(name: str) -> None:
    try:
        restart(_supervisor(), name)
    except RestartError as error:
        log.error("%s did not come back: %s", name, error)
    except (xmlrpc.client.Fault, OSError, http.client.HTTPException):
        pass  # supervisor is shutting down
    finally:
        restarting.release()


def _shut_down() -> None:
    try:
        _supervisor().shutdown()
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SHUTDOWN_STATE:  # it is shutting down already
            raise


def _supervisor() -> Any:
    """Connect to supervisor; a connection must not be shared between threads."""
    return childutils.getRPCInterface(os.environ).supervisor


if __name__ == "__main__":
    main()
