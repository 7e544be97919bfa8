"""The names under which the system routes answer."""

from slowpool.config import Config
from slowpool.status.own_names import OwnNames


def test_a_name_of_kubernetes_has_its_short_forms_and_no_other() -> None:
    names = OwnNames(Config(fast_host="fast.shop.svc.cluster.local"))
    assert all(
        host in names for host in ("fast", "fast:8001", "fast.shop.svc", "fast.shop.svc.cluster.local")
    )
    assert not any(host in names for host in ("fast.shop", "shop.svc", "slow", "fast.evil.svc"))
