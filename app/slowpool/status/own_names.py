"""OwnNames: the host names for which system routes answer.

With DNS rebinding a foreign page's name resolves to this machine, and its browser sends that name as Host.
The system routes refuse it, so the page cannot read the status page or the metrics.
"""

import ipaddress
import socket

from slowpool.config import Config


class OwnNames:
    """This machine's names and the pools', any address, and what ``SERVER_NAMES`` lists."""

    def __init__(self, config: Config) -> None:
        listed = config.server_names.replace(",", " ").split()
        pools = [config.fast_host, config.slow_host]
        # In Kubernetes a scraper may call fast.slowpool.svc.cluster.local also fast, or fast.slowpool.svc.
        short = [name for pool in pools if ".svc." in pool for name in (pool.split(".")[0], _until_svc(pool))]
        names = ["localhost", socket.gethostname(), *pools, *short, *listed]
        self._names = frozenset(name.lower() for name in names if name)

    def __contains__(self, host: str) -> bool:
        """Whether a Host header, with or without a port, has one of the names."""
        name, _, port = host.rpartition(":")
        if not name or not (port.isdecimal() or not port):
            name = host
        name = name.lower().removesuffix(".")
        return _is_address(name) or not self._names.isdisjoint(_matches(name))


def _until_svc(host: str) -> str:
    return host[: host.index(".svc.") + len(".svc")]


def _matches(name: str) -> list[str]:
    """What in a list of names matches this one, as nginx reads it: itself, ``*.b``, ``.b`` and ``a.*``."""
    labels = name.split(".")
    found = [name, f".{name}"]
    for index in range(1, len(labels)):
        ending = ".".join(labels[index:])
        found += [f"*.{ending}", f".{ending}", ".".join([*labels[:index], "*"])]
    return found


def _is_address(name: str) -> bool:
    try:
        if name.startswith("[") and name.endswith("]"):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
