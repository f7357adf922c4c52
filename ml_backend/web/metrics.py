"""Prometheus metrics of the backend, in a registry of their own."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ml_backend.errors import BrushloopError

logger = logging.getLogger(__name__)

Sample = tuple[str, Mapping[str, str], float]
BUCKETS = (0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # the last is Label Studio's limit


class Gauges(Collector):
    """What the rest of the house knows now, read when somebody asks."""

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing in advance: registering must not open the catalog."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a name; labels a sample lacks are empty. What cannot be read is logged."""
        try:
            samples = list(self._read())
        except BrushloopError as error:
            logger.warning("metrics: gauges left out: %s", error)
            return
        for name in sorted({name for name, _, _ in samples}):
            mine = [(labels, value) for other, labels, value in samples if other == name]
            keys = sorted({key for labels, _ in mine for key in labels})
            full = name if name.startswith("brushloop_") else f"brushloop_{name}"
            family = GaugeMetricFamily(full, full.replace("_", " "), labels=keys)
            for labels, value in mine:
                family.add_metric([str(labels.get(key, "")) for key in keys], value)
            yield family


class Metrics:
    """Counters of this process and gauges of the house."""

    def __init__(self, *gauges: Callable[[], Iterable[Sample]]) -> None:
        self._registry = CollectorRegistry()
        for read in gauges:
            self._registry.register(Gauges(read))
        self._requests = Counter(
            "brushloop_requests",
            "Requests answered.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "brushloop_request_seconds",
            "Seconds a request took.",
            ["route"],
            registry=self._registry,
            buckets=BUCKETS,
        )
        self._predictions = Counter(
            "brushloop_predictions",
            "Tasks predicted for Label Studio, by outcome.",
            ["outcome"],
            registry=self._registry,
        )
        self._events = Counter(
            "brushloop_events", "Events received.", ["action"], registry=self._registry
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def predictions(self, good: int, failed: int) -> None:
        """Count predicted tasks."""
        self._predictions.labels("good").inc(good)
        self._predictions.labels("failed").inc(failed)

    def event(self, action: str) -> None:
        """Count an event; `action` comes from a fixed set."""
        self._events.labels(action).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
