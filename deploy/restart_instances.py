"""``deploy/rolling-restart [fast|slow]``: restart the instances of this replica, one after the other.

The others are not touched before a restarted one is ready, nor after one that does not come back.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport

from app.config import Config, Pool
from app.errors import ConfigError
from deploy.supervise import CONTAINER_RUN_DIR, local_run_dir

READY_SECONDS = 60.0
"""An instance that is not ready this long after its start does not come back."""


class DoesNotComeBack(Exception):
    """An instance that was restarted, and why it is not there; it has been stopped."""


def main() -> int:
    """Restart what the command line names; returns the exit status."""
    try:
        pools = [Pool(name) for name in sys.argv[1:]] or list(Pool)
        run_dir = local_run_dir(Config.load())
    except ValueError:
        print("usage: deploy/rolling-restart [--compose] [fast|slow]", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"rolling-restart: {error}", file=sys.stderr)
        return 2
    if not run_dir.exists():
        run_dir = CONTAINER_RUN_DIR
    supervisor = connect(f"unix://{run_dir}/supervisor.sock")
    try:
        return roll(supervisor, pools)
    except OSError as error:
        print(f"rolling-restart: no supervisor answers in {run_dir}: {error}", file=sys.stderr)
        return 1


def connect(url: str) -> Any:
    """supervisor's own API, at the address of its socket."""
    return ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, url)).supervisor


def roll(supervisor: Any, pools: list[Pool]) -> int:
    """Restart the instances of these pools; returns the exit status."""
    processes = [process for process in supervisor.getAllProcessInfo() if process["group"] in pools]
    # Those that do not run come first: while they are away, a restart of another one would be noticed.
    processes.sort(key=lambda process: process["statename"] == "RUNNING")
    names = [process["name"] for process in processes]
    if not names:
        print(f"rolling-restart: there is no instance of {' or '.join(pools)} here", file=sys.stderr)
        return 1
    for index, name in enumerate(names):
        try:
            seconds = restart(supervisor, name)
        except DoesNotComeBack as error:
            rest = ", ".join(names[index + 1 :])
            untouched = f"; not touched: {rest}" if rest else ""
            print(f"rolling-restart: {name} does not come back: {error}{untouched}", file=sys.stderr)
            return 1
        print(f"rolling-restart: {name} is ready again after {seconds:.1f} s", flush=True)
    return 0


def restart(supervisor: Any, name: str) -> float:
    """Drain and stop an instance, such as ``fast-8001``, and start it; the seconds until it was ready.

    Raises DoesNotComeBack; the instance is then stopped, since supervisor would try it a few times
    more and then give up, which ends everything.
    """
    full_name = f"{name.partition('-')[0]}:{name}"
    started_at = time.monotonic()
    _stop(supervisor, full_name)
    try:
        supervisor.startProcess(full_name)
        _wait_until_ready(supervisor, full_name)
    except Fault as fault:
        _stop(supervisor, full_name)
        raise DoesNotComeBack(f"{fault.faultString}; its log says why") from fault
    except DoesNotComeBack:
        _stop(supervisor, full_name)
        raise
    return time.monotonic() - started_at


def _stop(supervisor: Any, full_name: str) -> None:
    try:
        supervisor.stopProcess(full_name)
    except Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise


def _wait_until_ready(supervisor: Any, full_name: str) -> None:
    pid = supervisor.getProcessInfo(full_name)["pid"]
    port = int(full_name.rpartition("-")[2])
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(port):
        process = supervisor.getProcessInfo(full_name)
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
