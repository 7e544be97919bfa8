"""Who the other instances of a deployment are."""

import asyncio
import socket

import pytest

from slowpool.config import Config, Instance, Pool
from slowpool.observe.peers import Peer, Peers

pytestmark = pytest.mark.usefixtures("nothing_set")

CONFIG = Config(fast_processes=2, slow_processes=1)


def found(config: Config, own: Instance | None = None) -> Peers:
    async def find() -> Peers:
        peers = Peers(config, own)
        await peers.find()
        return peers

    return asyncio.run(find())


def test_an_instance_has_all_but_itself_as_peers() -> None:
    peers = found(CONFIG, Instance(Pool.FAST, 8002))
    assert peers.others() == [Peer(Pool.FAST, "127.0.0.1", 8001), Peer(Pool.SLOW, "127.0.0.1", 8101)]
    assert peers.own_address == "127.0.0.1"


def test_an_instance_of_the_same_port_at_another_address_is_a_peer() -> None:
    peers = found(CONFIG, Instance(Pool.FAST, 8001))
    peers.addresses[Pool.FAST] = ["127.0.0.1", "192.0.2.7"]
    fast = [peer[1:] for peer in peers.others() if peer.pool is Pool.FAST]
    assert fast == [("192.0.2.7", 8001), ("127.0.0.1", 8002), ("192.0.2.7", 8002)]


@pytest.mark.parametrize("own", [Instance(Pool.ALL, 8001), Instance(Pool.FAST, 9000)])
def test_an_instance_that_the_settings_do_not_know_has_no_peers(own: Instance) -> None:
    assert found(CONFIG, own).others() == []


def test_a_program_that_is_no_instance_has_all_of_them() -> None:
    assert len(found(CONFIG).others()) == 3


@pytest.mark.parametrize(("error", "addresses"), [(socket.EAI_NONAME, []), (socket.EAI_AGAIN, ["192.0.2.7"])])
def test_a_pool_whose_name_leads_nowhere_has_no_instance_unless_the_dns_fails(
    monkeypatch: pytest.MonkeyPatch, error: int, addresses: list[str]
) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(error, "as the DNS says")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    peers = Peers(Config(fast_host="fast"))
    peers.addresses[Pool.FAST] = ["192.0.2.7"]
    asyncio.run(peers.find())
    assert peers.addresses[Pool.FAST] == addresses
