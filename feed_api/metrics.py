"""Prometheus metrics of one app; each is documented in `docs/api.md`."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contracts.feed import FeedPage, Feeds
from contracts.funnel import HEALTH_KEY, STAGE_BOUNDS_SECONDS, FunnelReport

_BUCKETS: Final = (
    0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15,
    0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_EDGES: Final = (*(str(bound) for bound in STAGE_BOUNDS_SECONDS), "+Inf")

_NUMBERS: Final[Mapping[str, tuple[type[GaugeMetricFamily | CounterMetricFamily], str]]] = {
    "applied_seq": (GaugeMetricFamily, "Position of the event log that the feeds have applied."),
    "posts": (GaugeMetricFamily, "Posts that can be ranked."),
    "people": (GaugeMetricFamily, "People that are known."),
    "records_written": (CounterMetricFamily, "Decision records that are stored."),
    "records_lost": (
        CounterMetricFamily,
        "Decision records dropped, or found lost after a crash, by this process.",
    ),
}
"""Numbers of `Feeds.health()` -> the kind of metric that each is, and what it says."""


class FeedHealthCollector(Collector):
    """Reads `Feeds.health()` at each scrape: positions, sizes, breakers, and the funnel."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._ever_open: set[str] = set()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the health is read at scrapes alone, not at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give what is known; what these feeds do not say is left out."""
        health = self._feeds.health()
        for name, (kind, text) in _NUMBERS.items():
            value = health.get(name)
            if isinstance(value, int | float):
                yield kind(f"headwater_{name}", text, value=float(value))
        yields = health.get("source_yield")
        yield _counter(
            "source_candidates", "Candidates that each source gave.", "source",
            yields if isinstance(yields, Mapping) else {},
        )  # fmt: skip
        last, applied, is_open = (
            health.get(name) for name in ("log_seq", "applied_seq", "open_breakers")
        )
        if isinstance(last, int) and isinstance(applied, int):
            text = "Events in the log that the feeds have not applied."
            yield GaugeMetricFamily("headwater_log_lag_events", text, value=last - applied)
        if isinstance(is_open, list):
            yield self._breakers(is_open)
        if health.get(HEALTH_KEY) is not None:
            yield from _funnel(FunnelReport.model_validate(health[HEALTH_KEY]))

    def _breakers(self, is_open: list[str]) -> Metric:
        """Give 1 for each component that is left alone, 0 for those that once were."""
        self._ever_open.update(is_open)
        states = {name: float(name in is_open) for name in sorted(self._ever_open)}
        return _gauge("breaker_open", "Components that are left alone now.", "component", states)


def _funnel(report: FunnelReport) -> Iterator[Metric]:
    since = report.since_start
    yield _counter(
        "source_reached", "Posts of slates, by each source that found them.", "source",
        since.reached,
    )  # fmt: skip
    yield _counter("filter_removed", "Rows that filters removed.", "reason", since.removed)
    stages = HistogramMetricFamily(
        "headwater_stage_seconds", "Time of each stage of a ranked feed.", labels=["stage"]
    )
    for stage, counts in since.stage_counts.items():
        steps = map(float, accumulate(counts))
        stages.add_metric(
            [stage], list(zip(_EDGES, steps, strict=True)), since.stage_seconds[stage]
        )
    yield stages
    ratios = {action: part.ratio for action, part in report.calibration.items()}
    yield _gauge(
        "calibration_ratio", "Actions observed over actions predicted.", "action",
        {action: ratio for action, ratio in ratios.items() if ratio is not None},
    )  # fmt: skip
    known = {
        "personalised_share": (report.personalised, "Slate posts found by a personal source."),
        "candidate_recall": (
            report.recall.mean if report.recall else None,
            "Share of the best 100 posts that the sources found.",
        ),
        "log_lag_seconds": (report.lag_seconds, "Age of the oldest event not applied."),
    }
    for name, (value, text) in known.items():
        if value is not None:
            yield GaugeMetricFamily(f"headwater_{name}", text, value=value)


def _by_label(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(f"headwater_{name}", text, labels=[label])
    for word, value in values.items():
        family.add_metric([str(word)], float(value))
    return family


_gauge: Final = partial(_by_label, GaugeMetricFamily)
_counter: Final = partial(_by_label, CounterMetricFamily)


class Metrics:
    """Counters and histograms of one app, in a registry of its own."""

    def __init__(self, feeds: Feeds) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        self._requests = counter(
            "headwater_requests", "Requests answered.", ["route", "method", "status"]
        )
        self._seconds = Histogram(
            "headwater_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route", "method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._levels = counter("headwater_feeds", "Feed pages by degrade level.", ["level"])
        self._reasons = counter(
            "headwater_feed_degrade_reasons", "Feed pages by degrade reason.", ["reason"]
        )
        self._events = counter("headwater_events", "Events posted, by outcome.", ["outcome"])
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
