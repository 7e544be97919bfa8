"""Durations: the same histogram as prometheus_client's own."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from slowpool.observe.durations import Durations

BOUNDS = [0.001, 0.0025, 1, 250]
OBSERVED = [(("GET", 200), 0.001), (("GET", 200), 0.0011), (("GET", 200), 7), (("PUT", 500), 1000)]


def test_it_exposes_what_the_histogram_of_the_library_exposes() -> None:
    own, library = CollectorRegistry(), CollectorRegistry()
    durations = Durations("d_seconds", "How long.", ["method", "status"], BOUNDS, own)
    histogram = Histogram("d_seconds", "How long.", ["method", "status"], buckets=BOUNDS, registry=library)
    for labels, seconds in OBSERVED:
        durations.observe(labels, seconds)
        histogram.labels(*labels).observe(seconds)
    lines = [line for line in generate_latest(library).splitlines() if b"_created" not in line]
    assert generate_latest(own).splitlines() == lines
    assert len(lines) > 2 * len(BOUNDS)
