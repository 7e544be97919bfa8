"""Durations: a histogram of Prometheus for what happens in each request."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Durations(Collector):
    """What ``Histogram`` of prometheus_client exposes, at a third of its time for each observation.

    For one thread only.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = [*bounds]
        self._counts: dict[tuple[object, ...], list[int]] = {}  # labels -> observations by bucket
        self._sums: dict[tuple[object, ...], float] = {}
        registry.register(self)

    def observe(self, labels: tuple[object, ...], seconds: float) -> None:
        """Count a duration."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = (*self._bounds, float("inf"))
        names = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]  # of the library
        for labels, counts in self._counts.items():
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([str(label) for label in labels], buckets, self._sums[labels])
        yield family
