"""supervisor's event listener: logs each change of a program's state and keeps the programs healthy.

- A program that is FATAL, or that exits again and again without ever being ready, shuts everything down. The
  engine then restarts the container, instead of leaving one that is up and does nothing.
- A hung instance is killed, since it would not react to SIGTERM. It is hung when it neither answers nor makes
  progress; an instance that makes progress is busy.
- Clients can make a handler block, or end its process, as often as they like. So neither these kills nor the
  end of an instance that was ready shuts everything down.
- An instance that has grown too large, or that an operator wants restarted, is drained and restarted. If it
  does not come back for an operator, it stays stopped; a container in which none is left shuts down.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor import childutils
from supervisor.xmlrpc import Faults

from deploy.supervise.events import Teller
from deploy.supervise.probe import status_of
from deploy.supervise.restart import RestartError, restart, stop
from slowpool.config import Config, Pool
from slowpool.observe import logs
from slowpool.observe.heartbeat import Beat, last_beat

PROBE_INTERVAL_SECONDS = 1.0
FAST_HUNG_SECONDS = 10.0
"""A fast instance that neither answers ``/-/livez`` nor makes progress for this long is hung."""
SLOW_HUNG_MARGIN_SECONDS = 30.0
"""A slow instance may compute inline for the timeout of a job, and this much longer."""
NGINX_HUNG_SECONDS = 30.0
"""nginx of a local run; it answers at once or not at all."""
BUSY_SECONDS = 300.0
"""An instance that makes progress may leave a probe without an answer for this much longer. Then something
other than its load keeps it from answering."""

MAX_EXITS_IN_VAIN = 4
"""Exits of a program in a row in which it was never ready. supervisor itself counts only those within a
second of the start. Kills of a hung program do not count."""

RECENT_SECONDS = 10.0
"""A program that made progress so shortly before it became FATAL was ready: its tries take no longer. A beat
that is later than now is from before a reboot of the machine."""

log = logging.getLogger("watchdog")

exits_in_vain: Counter[str] = Counter()
killed: set[int] = set()
"""The processes that were killed because they hung, and that supervisor has not reported yet."""
restarting = threading.Lock()
"""Held while an instance is restarted because of its size, or because an operator wants it."""


@dataclass(frozen=True)
class Program:
    """A program with a port, and how it is watched; ``max_rss_bytes`` of 0 is no limit."""

    name: str
    port: int
    path: str
    hung_seconds: float
    max_rss_bytes: int = 0

    @property
    def last_beat(self) -> Beat:
        """Zeros if it is unknown when it made progress, as for nginx."""
        return last_beat(Path(os.environ["SLOWPOOL_RUN_DIR"]), self.port)


def main() -> None:
    """Speak the listener's protocol on stdin and stdout until supervisor ends this process."""
    config = Config.load()
    programs = os.environ["SLOWPOOL_PROGRAMS"]
    logs.set_up(config, "" if programs == "*" else programs, "watchdog", sys.stderr)
    watched = {program.name: program for program in _watched(config, programs)}
    events = Teller(config, os.environ.get("SLOWPOOL_REPLICA", ""))
    for program in watched.values():
        threading.Thread(target=_watch, args=(program, events), daemon=True).start()
    shutting_down = False
    while True:
        headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
        event = childutils.get_headers(payload)
        name = f"{event['groupname']}:{event['processname']}"
        state = headers["eventname"].removeprefix("PROCESS_STATE_")
        pid = int(event.get("pid", 0))
        level = logging.INFO if state == "STARTING" or event.get("expected") == "1" else logging.WARNING
        log.log(level, "%s is %s", name, state, extra={"pid": pid})
        beat = watched[name].last_beat if name in watched else Beat(0.0, 0)
        if state == "EXITED":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # supervisor makes each program the leader of a group
            if pid in killed:
                killed.discard(pid)
            else:
                status = "0" if event.get("expected") == "1" else "other than 0, or by a signal"
                events.soon("exit", name, f"process {pid} has ended with exit status {status}")
                exits_in_vain[name] = 0 if beat.at and beat.pid == pid else exits_in_vain[name] + 1
        elif state == "BACKOFF":
            events.soon("exit", name, f"has ended right after its start, try {event['tries']}")
        if shutting_down:
            pass
        elif state == "FATAL" and 0 <= time.monotonic() - beat.at < RECENT_SECONDS:
            log.error("%s has ended again and again soon after it was ready: starting it again", name)
            _unless_shutting_down(lambda supervisor: supervisor.startProcess(name, False))  # noqa: B023
        elif state == "FATAL" or exits_in_vain[name] >= MAX_EXITS_IN_VAIN:
            log.error("%s cannot be kept running: shutting everything down", name)
            events.now("exit", name, "cannot be kept running: everything here is shut down")
            _unless_shutting_down(lambda supervisor: supervisor.shutdown())
            shutting_down = True
        childutils.listener.ok(sys.stdout)


def _watched(config: Config, programs: str) -> Iterator[Program]:
    hung_seconds = {
        Pool.FAST: FAST_HUNG_SECONDS,
        Pool.SLOW: config.slow_timeout_seconds + SLOW_HUNG_MARGIN_SECONDS,
    }
    for pool, seconds in hung_seconds.items():
        if programs in (pool, "*"):
            for instance in config.instances(pool):
                name = f"{pool}:{pool}-{instance.port}"
                yield Program(name, instance.port, "/-/livez", seconds, config.instance_max_rss_bytes)
    if programs == "*":
        yield Program("nginx:nginx", config.admin_port, "/livez", NGINX_HUNG_SECONDS)


def _watch(program: Program, events: Teller) -> None:
    while True:
        time.sleep(PROBE_INTERVAL_SECONDS)
        try:
            silence = _silence(program)
            if silence:
                if _kill(program, silence):
                    events.soon("hang", program.name, f"{silence}, and is killed")
                continue
            exits_in_vain[program.name] = 0
            if (beat := program.last_beat).wants_restart:
                _restart_if_wanted(program.name, beat.pid, events)
            elif program.max_rss_bytes:
                _check_size(program.name, program.max_rss_bytes, events)
        except (xmlrpc.client.Error, OSError, http.client.HTTPException):
            pass  # it starts, drains or has exited, which supervisor knows, or supervisor is shutting down


def _silence(program: Program) -> str:
    """Wait until the program answers or has hung; return why it has hung, empty if it has answered.

    Raises OSError when nothing listens on the port or the answer is not HTTP.
    """
    asked_at = time.monotonic()
    while True:
        hung_at = max(asked_at, program.last_beat.at) + program.hung_seconds
        deaf_at = asked_at + program.hung_seconds + BUSY_SECONDS
        left_seconds = min(hung_at, deaf_at) - time.monotonic()
        if left_seconds <= 0:
            if hung_at <= deaf_at:
                return f"has not answered for {program.hung_seconds:g} s"
            return f"works and has not answered for {program.hung_seconds + BUSY_SECONDS:g} s"
        try:
            status_of(program.port, program.path, left_seconds)
            return ""
        except TimeoutError:
            time.sleep(PROBE_INTERVAL_SECONDS)  # what was stopped together with this process runs again


def _kill(program: Program, why: str) -> bool:
    """Kill a program, unless it has been replaced or has exited meanwhile; whether it was killed."""
    supervisor = _supervisor()
    info = supervisor.getProcessInfo(program.name)
    if info["now"] - info["start"] + 1 < program.hung_seconds:  # in whole seconds
        return False
    log.error("%s %s: killing it", program.name, why)
    killed.add(info["pid"])
    try:
        supervisor.signalProcess(program.name, "KILL")
    except xmlrpc.client.Fault as fault:
        killed.discard(info["pid"])
        log.warning("%s: %s", program.name, fault.faultString)
        return False
    return True


def _restart_if_wanted(name: str, pid: int, events: Teller) -> None:
    """Restart the instance for which an operator has asked, unless another process has taken its place."""
    if pid == _supervisor().getProcessInfo(name)["pid"]:
        _begin_restart(name, "restart", "was asked to restart", events)


def _check_size(name: str, max_rss_bytes: int, events: Teller) -> None:
    """Restart an instance that is too large."""
    statm = Path(f"/proc/{_supervisor().getProcessInfo(name)['pid']}/statm")
    rss_bytes = int(statm.read_text().split()[1]) * resource.getpagesize()
    if rss_bytes > max_rss_bytes:
        text = f"has {rss_bytes >> 20} MiB of resident memory, more than INSTANCE_MAX_RSS_BYTES"
        _begin_restart(name, "memory", text, events)


def _begin_restart(name: str, kind: str, why: str, events: Teller) -> None:
    """Restart an instance in a thread of its own, since draining takes a while; an event has the kind.

    While another instance is restarted, do nothing: the next check finds this one as it is.
    """
    if restarting.acquire(blocking=False):
        log.log(logging.INFO if kind == "restart" else logging.WARNING, "%s %s: restarting it", name, why)
        events.soon(kind, name, f"{why}: is restarted")
        threading.Thread(target=_restart, args=(name, kind, events), daemon=True).start()


def _restart(name: str, kind: str, events: Teller) -> None:
    """Restart an instance, which an operator has asked for if that is the kind."""
    try:
        try:
            restart(_supervisor(), name)
        except RestartError as error:
            if kind == "restart":
                _stop_for_good(name, error, events)
            else:  # supervisor goes on trying: there may be nobody who would start it again
                log.error("%s did not come back: %s", name, error)
    except (xmlrpc.client.Fault, OSError, http.client.HTTPException):
        pass  # supervisor is shutting down
    finally:
        restarting.release()


def _stop_for_good(name: str, error: RestartError, events: Teller) -> None:
    """Stop an instance that did not come back, as a rolling restart does.

    If it is the last one of a container, that ends, and its engine starts it again. In a local run nothing
    would, and the other pool still answers.
    """
    supervisor = _supervisor()
    stop(supervisor, name)
    pool = os.environ["SLOWPOOL_PROGRAMS"]
    states = {one["statename"] for one in supervisor.getAllProcessInfo() if one["group"] == pool}
    is_last = states == {"STOPPED"}
    end = "everything here is shut down" if is_last else "stays stopped until a rolling restart"
    log.error("%s did not come back, and %s: %s", name, end, error)
    events.now("exit", name, f"did not come back, and {end}: {error}")
    if is_last:
        supervisor.shutdown()


def _unless_shutting_down(call: Callable[[Any], object]) -> None:
    """Call supervisor, which refuses everything once it shuts down."""
    try:
        call(_supervisor())
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SHUTDOWN_STATE:
            raise


def _supervisor() -> Any:
    """Connect to supervisor; a connection must not be shared between threads."""
    return childutils.getRPCInterface(os.environ).supervisor


if __name__ == "__main__":
    main()
