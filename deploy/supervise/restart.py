"""``deploy/rolling-restart [fast|slow]``: restart the instances of this replica one at a time.

The next instance is restarted only when the one before is ready again. If an instance does not come back,
the restart stops, names it and the untouched ones, and exits with 1.
"""

import sys
import time
from collections.abc import Callable
from typing import Any
from xmlrpc.client import Fault  # nosec B411  # only supervisor answers

from supervisor.xmlrpc import Faults

from deploy.supervise.events import Teller
from deploy.supervise.probe import is_ok
from deploy.supervise.rpc import CONTAINER_RUN_DIR, replica_name, supervisor_api
from slowpool.config import Config, Pool
from slowpool.errors import ConfigError
from slowpool.local_run import Run

READY_SECONDS = 60.0
"""An instance must be ready this long after its start."""


class RestartError(Exception):
    """Why a restarted instance did not come back."""


def main() -> int:
    """Restart the pools that the command line names, by default both; return the exit status."""
    try:
        pools = [Pool(name) for name in sys.argv[1:]] or list(Pool)
    except ValueError:
        print("usage: deploy/rolling-restart [--compose] [fast|slow]", file=sys.stderr)
        return 2
    try:
        config = Config.load()
        run = Run.find(config)
        if run and (stale := run.stale(config)):
            print(f"rolling-restart: nothing was touched: {stale}", file=sys.stderr)
            return 1
        if run:
            return restart_all(supervisor_api(run.folder), pools, Teller(run.config, "").now)
        tell = Teller(config, replica_name()).now
        return restart_all(supervisor_api(CONTAINER_RUN_DIR), pools, tell)
    except ConfigError as error:
        print(f"rolling-restart: {error}", file=sys.stderr)
        return error.exit_status
    except OSError:
        reason = (
            f"no ./deploy/local with HTTP_PORT={config.http_port} is running, and this is not a container"
        )
        print(f"rolling-restart: {reason}", file=sys.stderr)
        return 1
    except Fault as fault:
        print(f"rolling-restart: supervisor refuses: {fault.faultString}", file=sys.stderr)
        return 1


def restart_all(supervisor: Any, pools: list[Pool], tell: Callable[[str, str, str], None]) -> int:
    """Restart the instances of these pools one at a time; return the exit status.

    ``tell`` gets the kind, program and text of each event.

    An instance that does not come back is stopped. Otherwise supervisor would start it a few more times,
    then give up, and the watchdog would stop everything.
    """
    processes = [process for process in supervisor.getAllProcessInfo() if process["group"] in pools]
    # Stopped ones first: as long as they are missing, restarting another one costs capacity.
    processes.sort(key=lambda process: process["statename"] == "RUNNING")
    names = [f"{process['group']}:{process['name']}" for process in processes]
    if not names:
        print(f"rolling-restart: no instance of {' or '.join(pools)} runs here", file=sys.stderr)
        return 1
    tell("roll", "", f"begins to restart {len(names)} instances, one at a time")
    for index, name in enumerate(names):
        tell("restart", name, f"is restarted, {index + 1} of {len(names)}")
        try:
            seconds = restart(supervisor, name)
        except RestartError as error:
            stop(supervisor, name)
            rest = ", ".join(names[index + 1 :])
            untouched = f"; not touched: {rest}" if rest else ""
            tell("roll", name, f"did not come back, and the roll ends: {error}{untouched}")
            print(f"rolling-restart: {name} did not come back: {error}{untouched}", file=sys.stderr)
            return 1
        print(f"rolling-restart: {name} is ready again after {seconds:.1f} s", flush=True)
    tell("roll", "", f"has restarted {len(names)} instances")
    return 0


def restart(supervisor: Any, name: str) -> float:
    """Drain, stop and start an instance, such as ``fast:fast-8001``; return the seconds until it is ready.

    Raises RestartError when it does not come back, and Fault when supervisor is shutting down.
    """
    started_at = time.monotonic()
    stop(supervisor, name)
    try:
        supervisor.startProcess(name)
    except Fault as fault:
        if fault.faultCode == Faults.SHUTDOWN_STATE:
            raise
        raise RestartError("it exited at once; its log says why") from fault
    _wait_until_ready(supervisor, name)
    return time.monotonic() - started_at


def stop(supervisor: Any, name: str) -> None:
    """Drain and stop an instance if it runs. Raises Fault when supervisor is shutting down."""
    try:
        supervisor.stopProcess(name)
    except Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise


def _wait_until_ready(supervisor: Any, name: str) -> None:
    pid = supervisor.getProcessInfo(name)["pid"]
    port = int(name.rpartition("-")[2])
    deadline = time.monotonic() + READY_SECONDS
    while not is_ok(port, "/-/readyz"):
        if supervisor.getProcessInfo(name)["pid"] != pid:
            raise RestartError(f"process {pid} has exited; its log says why")
        if time.monotonic() > deadline:
            raise RestartError(f"not ready within {READY_SECONDS:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
