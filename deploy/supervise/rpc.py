"""supervisor's XML-RPC interface, on a Unix socket in the run directory."""

from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy  # nosec B411  # only supervisor answers

from supervisor.xmlrpc import SupervisorTransport

CONTAINER_RUN_DIR = Path("/tmp/slowpool")  # nosec B108  # a tmpfs of the container


def supervisor_api(run_dir: Path) -> Any:
    """Return the interface of the supervisor with this run directory.

    Its methods raise OSError when no supervisor answers there, and xmlrpc.client.Fault when it refuses.
    """
    transport = SupervisorTransport(None, None, f"unix://{run_dir}/supervisor.sock")
    return ServerProxy("http://127.0.0.1", transport=transport).supervisor
