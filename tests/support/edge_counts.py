"""What nginx counts of itself, at ``/status/edge``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from tests.support.basics import wait_until
from tests.support.client import request
from tests.support.nginx import Nginx


def edge_counts(admin_port: int) -> Counter[str]:
    """Each count that is not 0, such as ``errors 503 fast`` and ``hand_overs``; without connections."""
    response = request(admin_port, "/status/edge")
    assert response.status == 200, response
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            name = sample.name.removeprefix("nginx_").removesuffix("_total")
            labels = [value for _, value in sorted(sample.labels.items(), reverse=True)]
            if sample.value and not name.startswith("connections"):
                found[" ".join([name, *labels])] = int(sample.value)
    return found


@contextmanager
def counting(nginx: Nginx, expected: Mapping[str, int]) -> Iterator[None]:
    """Wait on exit until just this has been counted within."""
    before = edge_counts(nginx.admin_port)
    yield
    wait_until_counted(nginx, before + Counter(expected))
    # What this 404 finds in the buffers of nginx is counted with it.
    assert request(nginx.port, "/-/").status == 404
    wait_until_counted(nginx, before + Counter(expected) + Counter({"errors 404": 1}))


def wait_until_counted(nginx: Nginx, expected: Mapping[str, int]) -> None:
    """Return when just this has been counted since nginx started."""

    def is_counted() -> bool:
        found = edge_counts(nginx.admin_port)
        assert found <= Counter(expected), found - Counter(expected)
        return found == expected

    wait_until(is_counted, 10, f"{expected}")
