"""Prometheus metrics of one app; each is documented in `docs/api.md`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contracts.feed import FeedPage, Feeds

_BUCKETS: Final = (
    0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15,
    0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip

_GAUGES: Final = {
    "applied_seq": "Position of the event log that the feeds have applied.",
    "posts": "Posts that can be ranked.",
    "people": "People that are known.",
}


class FeedHealthCollector(Collector):
    """Reads `Feeds.health()` at each scrape: applied position, sizes, source yield."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the health is read at scrapes alone, not at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give a gauge for each known number, and the candidates of each source so far."""
        health = self._feeds.health()
        for name, text in _GAUGES.items():
            value = health.get(name)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(f"headwater_{name}", text, value=float(value))
        yields = health.get("source_yield")
        family = CounterMetricFamily(
            "headwater_source_candidates", "Candidates that each source gave.", labels=["source"]
        )
        for source, count in yields.items() if isinstance(yields, Mapping) else ():
            family.add_metric([str(source)], float(count))
        yield family


class Metrics:
    """Counters and histograms of one app, in a registry of its own."""

    def __init__(self, feeds: Feeds) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "headwater_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "headwater_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route", "method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._levels = Counter(
            "headwater_feeds", "Feed pages by degrade level.", ["level"], registry=self.registry
        )
        self._reasons = Counter(
            "headwater_feed_degrade_reasons",
            "Feed pages by degrade reason.",
            ["reason"],
            registry=self.registry,
        )
        self._events = Counter(
            "headwater_events", "Events posted, by outcome.", ["outcome"], registry=self.registry
        )
        self.registry.register(FeedHealthCollector(feeds))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def feed(self, page: FeedPage) -> None:
        """Count one page of a feed by its level and by each reason for it."""
        self._levels.labels(page.level.value).inc()
        for reason in page.degrade_reasons:
            self._reasons.labels(reason.value).inc()

    def events(self, accepted: int, duplicates: int, rejected: int) -> None:
        """Count the rows of one batch of events."""
        self._events.labels("accepted").inc(accepted)
        self._events.labels("duplicate").inc(duplicates)
        self._events.labels("rejected").inc(rejected)

    def text(self) -> bytes:
        """Write all metrics in Prometheus' text form."""
        return generate_latest(self.registry)
