"""Connections that the network policies of deploy/kubernetes allow."""

import pytest

from tests.support.certificate import needs_openssl
from tests.support.kubernetes import (
    ALTERNATIVE,
    INSTANCES,
    PODS,
    VARIANTS,
    Json,
    Network,
)

PROMETHEUS = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
KUBE_DNS = ("kube-system", {"k8s-app": "kube-dns"})
STRANGERS = [
    ("default", {"app.kubernetes.io/name": "prometheus"}),
    ("monitoring", {"app.kubernetes.io/name": "x"}),
]

pytestmark = [pytest.mark.usefixtures("nothing_set"), needs_openssl]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_pod = pytest.mark.parametrize("name", PODS)


@every_variant
def test_only_nginx_prometheus_and_the_instances_themselves_reach_the_instances(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    network = Network.of(rendered[variant])
    for name, port in INSTANCES:
        pod = network.pod(name)
        for source in (network.pod("nginx"), network.pod("fast"), network.pod("slow"), PROMETHEUS):
            assert network.lets_in(pod, source, port)
        for stranger in STRANGERS:
            assert not network.lets_in(pod, stranger, port)


@every_variant
def test_nginx_can_be_reached_by_everyone_on_its_public_ports_only(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    network = Network.of(rendered[variant])
    for source in (*STRANGERS, PROMETHEUS, network.pod("fast")):
        assert network.lets_in(network.pod("nginx"), source, 8080)
        assert network.lets_in(network.pod("nginx"), source, 8443)
        is_scraped = (variant, source) == (ALTERNATIVE, PROMETHEUS)
        assert network.lets_in(network.pod("nginx"), source, 8081) is is_scraped


@every_variant
def test_only_slow_instances_reach_what_keeps_accepted_jobs(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    network = Network.of(rendered[variant])
    valkey = network.pod("valkey", "StatefulSet")
    for name in PODS:
        pod = network.pod(name)
        assert network.lets_in(valkey, pod, 6379) is (name == "slow")
        assert network.lets_out(pod, valkey, 6379) is (name == "slow")
        assert not network.lets_in(valkey, pod, 22)
        assert not network.lets_out(valkey, pod, 8101)
    for stranger in (*STRANGERS, PROMETHEUS):
        assert not network.lets_in(valkey, stranger, 6379)
        assert not network.lets_out(valkey, stranger, 443)


@every_variant
@every_pod
def test_a_pod_reaches_the_dns_and_the_instances_and_nobody_else(
    rendered: dict[str, list[Json]], variant: str, name: str
) -> None:
    network = Network.of(rendered[variant])
    pod = network.pod(name)
    for protocol in ("UDP", "TCP"):
        assert network.lets_out(pod, KUBE_DNS, 53, protocol)
    assert not network.lets_out(pod, KUBE_DNS, 443)
    for pool, port in INSTANCES:
        assert network.lets_out(pod, network.pod(pool), port)
    for stranger in (*STRANGERS, PROMETHEUS):
        assert not network.lets_out(pod, stranger, 443)


@every_variant
def test_a_pod_that_no_other_policy_names_reaches_nobody_and_is_reached_by_nobody(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    network = Network.of(rendered[variant])
    other = (network.namespace, {"app.kubernetes.io/name": "other"})
    for peer in (network.pod("nginx"), PROMETHEUS, *STRANGERS):
        assert not network.lets_in(other, peer, 8080)
        assert not network.lets_out(other, peer, 8080)
