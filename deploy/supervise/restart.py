"""``deploy/rolling-restart [fast|slow]``: restart the instances of this replica, one after the other.

The others are not touched before a restarted one is ready, nor after one that does not come back.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import Any
from xmlrpc.client import Fault  # nosec B411  # supervisor answers, nobody else

from supervisor.xmlrpc import Faults

from deploy.supervise.run import CONTAINER_RUN_DIR, supervisor_api
from slowpool.config import Config, Pool
from slowpool.errors import ConfigError
from slowpool.local_run import Run

READY_SECONDS = 60.0
"""An instance that is not ready this long after its start does not come back."""


class DoesNotComeBack(Exception):
    """Why an instance that was restarted is not there."""


def main() -> int:
    """Restart what the command line names; returns the exit status."""
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
        return roll(supervisor_api(run.folder if run else CONTAINER_RUN_DIR), pools)
    except ConfigError as error:
        print(f"rolling-restart: {error}", file=sys.stderr)
        return error.exit_status
    except OSError:
        where = f"no ./deploy/local with HTTP_PORT={config.http_port} runs, and this is not in a container"
        print(f"rolling-restart: {where}", file=sys.stderr)
        return 1
    except Fault as fault:
        print(f"rolling-restart: supervisor refuses: {fault.faultString}", file=sys.stderr)
        return 1


def roll(supervisor: Any, pools: list[Pool]) -> int:
    """Restart the instances of these pools; returns the exit status.

    One that does not come back is stopped: supervisor would start it a few times more and then give up,
    which ends everything.
    """
    processes = [process for process in supervisor.getAllProcessInfo() if process["group"] in pools]
    # Those that do not run come first: with them away, a restart of another one might be noticed.
    processes.sort(key=lambda process: process["statename"] == "RUNNING")
    names = [f"{process['group']}:{process['name']}" for process in processes]
    if not names:
        print(f"rolling-restart: there is no instance of {' or '.join(pools)} here", file=sys.stderr)
        return 1
    for index, name in enumerate(names):
        try:
            seconds = restart(supervisor, name)
        except DoesNotComeBack as error:
            stop(supervisor, name)
            rest = ", ".join(names[index + 1 :])
            untouched = f"; not touched: {rest}" if rest else ""
            print(f"rolling-restart: {name} does not come back: {error}{untouched}", file=sys.stderr)
            return 1
        print(f"rolling-restart: {name} is ready again after {seconds:.1f} s", flush=True)
    return 0


def restart(supervisor: Any, name: str) -> float:
    """Drain and stop an instance, such as ``fast:fast-8001``, and start it; the seconds until it was ready.

    Raises DoesNotComeBack, and Fault when supervisor itself is about to end.
    """
    started_at = time.monotonic()
    stop(supervisor, name)
    try:
        supervisor.startProcess(name)
    except Fault as fault:
        if fault.faultCode == Faults.SHUTDOWN_STATE:
            raise
        raise DoesNotComeBack("it has ended at once; its log says why") from fault
    _wait_until_ready(supervisor, name)
    return time.monotonic() - started_at


def stop(supervisor: Any, name: str) -> None:
    """Drain and stop an instance, if it runs. Raises Fault when supervisor itself is about to end."""
    try:
        supervisor.stopProcess(name)
    except Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise


def _wait_until_ready(supervisor: Any, name: str) -> None:
    pid = supervisor.getProcessInfo(name)["pid"]
    port = int(name.rpartition("-")[2])
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(port):
        process = supervisor.getProcessInfo(name)
        if process["pid"] != pid:
            raise DoesNotComeBack(f"process {pid} has ended; its log says why")
        if time.monotonic() > deadline:
            raise DoesNotComeBack(f"not ready within {READY_SECONDS:g} s")
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
