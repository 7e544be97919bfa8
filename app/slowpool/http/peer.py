"""Peer: the client of a request."""

import functools
from dataclasses import dataclass
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.netutil import is_valid_ip

IP_CHARACTERS = 62
"""The longest address: one of IPv6, with the name of an interface. Those that have been seen are kept."""


@dataclass(slots=True)
class Peer:
    """What Tornado calls the context of a connection: the client's address and scheme.

    ``address`` is that of the socket.
    """

    address: Any
    remote_ip: str
    protocol: str = "http"

    def __str__(self) -> str:
        return self.remote_ip


def peer(address: Any, headers: HTTPHeaders) -> Peer:
    """The client as nginx has seen it: as in Tornado, X-Real-IP comes before X-Forwarded-For."""
    remote_ip = headers.get("X-Real-Ip") or headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    if not remote_ip or len(remote_ip) > IP_CHARACTERS or not _is_ip(remote_ip):
        remote_ip = address[0]
    protocol = headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip()
    return Peer(address, remote_ip, protocol if protocol in ("http", "https") else "http")


_is_ip = functools.lru_cache(10_000)(is_valid_ip)
