"""The metrics of an instance, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Instance


def scrape(instance: Instance) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, by its name and labels."""
    response = instance.get("/-/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(instance: Instance, name: str, **labels: str) -> float:
    """One sample; 0 when it is not there."""
    return scrape(instance).get((name, frozenset(labels.items())), 0)
