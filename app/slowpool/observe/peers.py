"""Peers: the instances of the deployment, found as nginx finds them, and requests to their system routes."""

import asyncio
import ipaddress
import re
import socket
from typing import NamedTuple

from slowpool.config import Config, Instance, Pool

ANSWER_SECONDS = 1.0
"""How long a peer has to answer a request, and the DNS to answer a look-up."""

MAX_BYTES = 1 << 20
"""The largest body that peers send each other."""


class Peer(NamedTuple):
    """Where an instance listens."""

    pool: Pool
    address: str
    port: int


class Peers:
    """All instances of both pools, as seen by ``own``, if that is one of them."""

    def __init__(self, config: Config, own: Instance | None = None) -> None:
        self._config = config
        self._own = own
        self.addresses: dict[Pool, list[str]] = {Pool.FAST: [], Pool.SLOW: []}
        self._lookups: dict[Pool, asyncio.Task[None]] = {}

    @property
    def is_member(self) -> bool:
        """Whether the own instance is one that the settings know; a test's or ``--pool=all`` is not."""
        own = self._own
        return (
            own is not None
            and own.pool in self.addresses
            and own.port in (instance.port for instance in self._config.instances(own.pool))
        )

    async def find(self, timeout_seconds: float = ANSWER_SECONDS) -> None:
        """Look up the pools' addresses. If the DNS does not answer in time, they do not change."""
        for pool in self.addresses:
            host = self._config.fast_host if pool is Pool.FAST else self._config.slow_host
            if _is_address(host):
                self.addresses[pool] = [host]  # to ask a thread each second would take CPU time
            elif pool not in self._lookups or self._lookups[pool].done():
                self._lookups[pool] = asyncio.create_task(self._resolve(pool, host))
        if self._lookups:
            await asyncio.wait(self._lookups.values(), timeout=timeout_seconds)

    def all(self) -> list[Peer]:
        """Every instance at the addresses that were found last."""
        return [
            Peer(pool, address, instance.port)
            for pool, addresses in self.addresses.items()
            for instance in self._config.instances(pool)
            for address in addresses
        ]

    def others(self) -> list[Peer]:
        """The same without the own instance; none if that is no member."""
        if self._own and not self.is_member:
            return []
        return [peer for peer in self.all() if not self._is_own(peer)]

    @property
    def own_address(self) -> str:
        """The address at which the others find the own instance; empty if it is no member."""
        return next((peer.address for peer in self.all() if self._is_own(peer)), "")

    async def get(self, peer: Peer, path: str) -> bytes:
        """GET a system route; returns the body. Raises OSError as ``post`` does."""
        return await _request(peer, "GET", path)

    async def post(self, peer: Peer, path: str, body: str) -> None:
        """POST JSON to a system route.

        Raises ConnectionRefusedError when the peer does not take it, and another OSError when it may have.
        """
        await _request(peer, "POST", path, body.encode())

    def close(self) -> None:
        """End the look-ups."""
        for lookup in self._lookups.values():
            lookup.cancel()

    def _is_own(self, peer: Peer) -> bool:
        own = self._own
        return own is not None and (peer.pool, peer.port) == (own.pool, own.port) and _is_local(peer.address)

    async def _resolve(self, pool: Pool, host: str) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                self.addresses[pool] = []  # scaled to 0
        else:
            self.addresses[pool] = sorted({str(address[0]) for *_, address in found})


async def _request(peer: Peer, method: str, path: str, body: bytes = b"") -> bytes:
    """A request on a connection of its own; not with Tornado's client, whose requests are traced."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {peer.address}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(peer.address, peer.port)
        try:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not re.match(rb"HTTP/1\.[01] 2", answer):
                raise ConnectionRefusedError(answer.split(b"\r\n")[0].decode("latin-1"))
            content = bytearray()
            while chunk := await reader.read(MAX_BYTES):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ConnectionError("the answer is too large")
            return bytes(content)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("no HTTP answer") from error
        finally:
            writer.close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_local(address: str) -> bool:
    """Whether the address is this machine's or container's: the kernel then sends to it from itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing
        except OSError:
            return False
        return bool(probe.getsockname()[0] == address)
