"""The buckets of the metrics."""

import pytest

from slowpool.config import Pool
from slowpool.observe.metrics import Metrics


@pytest.mark.parametrize("timeout", [0.0001, 0.5, 60, 86_400])
def test_whatever_the_deadline_is_a_bucket_lies_past_it(timeout: float) -> None:
    metrics = Metrics(Pool.SLOW, timeout)
    metrics.request("GET", "/", 200, timeout, {})
    bounds = [
        float(sample.labels["le"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_bucket"
    ]
    assert bounds[-2] > timeout
