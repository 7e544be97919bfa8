"""supervisor's XML-RPC interface, on a Unix socket in the run directory, and the name of its replica."""

import socket
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy  # nosec B411  # only supervisor answers

from supervisor.xmlrpc import SupervisorTransport

CONTAINER_RUN_DIR = Path("/tmp/slowpool")  # nosec B108  # a tmpfs of the container


def replica_name() -> str:
    """The name of the replica that this process is in: the host name, in Docker the container's short id."""
    return socket.gethostname()


def supervisor_api(run_dir: Path) -> Any:
    """Return the interface of the supervisor with this run directory.

    Its methods raise OSError when no supervisor answers there, and xmlrpc.client.Fault when it refuses.
    """
    transport = SupervisorTransport(None, None, f"unix://{run_dir}/supervisor.sock")
    return ServerProxy("http://127.0.0.1", transport=transport).supervisor
