"""Faults: every component of the home feed made to raise or be slow; what the feed says and costs.

Feeds come from a `FeedService` in this process over a small generated home, with the deadlines of
the settings' defaults. Each viewer has one healthy feed before anything breaks; then each
injection gets a fresh pipeline and the same number of feeds, in a random order of viewers.
"""

import argparse
import random
from collections import Counter
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any

import structlog

from benchmarks.injection import Injection, injections, stages_of, use_pipeline
from benchmarks.latency import Size, prepare
from benchmarks.measure import BENCH, finish
from contracts.clock import now_us
from contracts.feed import FeedPage
from contracts.ids import FeedId, Namespace, UserId
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.components import Deadlines
from serving.opening import open_service
from serving.pipeline import FeedPipeline, Stages
from serving.service import FeedService

COLUMNS = (
    "component", "fault", "levels", "reasons", "feeds", "worst_ms", "p50_ms", "empty", "within_150",
)  # fmt: skip
WITHIN_MS = 150.0
HOUR_US = 3600 * 10**6
KINDS = (("raises", None), ("60 ms", 0.06), ("200 ms", 0.2))


def main() -> None:
    """Inject, ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--posts", type=int, default=3000)
    parser.add_argument("--feeds", type=int, default=60, help="feeds an injection")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    home = BENCH / "faults"
    prepare(home, Size(arguments.people, arguments.posts, 1.0, 1))
    settings = Settings(home=home)
    with Workspace.open(home) as workspace:
        viewers = workspace.ids.all(Namespace.PERSON)[0].tolist()
        service = open_service(workspace, settings, start=False)
        bench = Bench(service, settings, viewers, arguments.feeds)
        rows = bench.rows()
        service.close()
    finish("faults", rows, COLUMNS)
    empty, worst = sum(row["empty"] for row in rows), max(row["worst_ms"] for row in rows)
    print(f"{sum(row['feeds'] for row in rows)} feeds: {empty} empty, worst {worst:.0f} ms")


@dataclass(frozen=True, slots=True)
class Asked:
    """One answered feed and how long it took."""

    page: FeedPage
    ms: float


class Bench:
    """Asks feeds of one service under one injection after the other."""

    def __init__(
        self, service: FeedService, settings: Settings, viewers: list[int], feeds: int
    ) -> None:
        self._service = service
        self._settings = settings
        self._viewers = viewers
        self._feeds = feeds
        self._random = random.Random(1)
        self._numbers = count(1)
        self._start_us = now_us()

    def rows(self) -> list[dict[str, Any]]:
        """Give a row an injection, the healthy feed first."""
        stages = stages_of(self._service)
        self._use(stages)
        for viewer in self._viewers:
            self._ask(viewer)
        rows = [self._row(Injection("none", stages), "")]
        for fault, seconds in KINDS:
            rows += [self._row(found, fault) for found in injections(stages, seconds)]
        return rows

    def _use(self, stages: Stages) -> None:
        deadlines = Deadlines.of(self._settings)
        use_pipeline(
            self._service, FeedPipeline(stages, self._settings.source_deadline_ms, deadlines)
        )

    def _ask(self, viewer: int) -> Asked:
        number = next(self._numbers)
        # Some feeds a minute: what was served is not withheld for ever, and stays fit to be cached.
        at = self._start_us + number * HOUR_US // 500
        query = FeedQuery(FeedId(number), UserId(viewer), at, 20)
        started = perf_counter()
        page = self._service.open(query)
        return Asked(page, 1000 * (perf_counter() - started))

    def _row(self, injection: Injection, fault: str) -> dict[str, Any]:
        self._use(injection.stages)
        answers = [self._ask(self._random.choice(self._viewers)) for _ in range(self._feeds)]
        levels = Counter(answer.page.level.value for answer in answers)
        reasons = Counter(
            reason.value for answer in answers for reason in answer.page.degrade_reasons
        )
        times = sorted(answer.ms for answer in answers)
        return {
            "component": injection.component,
            "fault": fault,
            "levels": _counted(levels),
            "reasons": _counted(reasons),
            "feeds": len(answers),
            "worst_ms": round(times[-1], 1),
            "p50_ms": round(times[len(times) // 2], 2),
            "empty": sum(not answer.page.items for answer in answers),
            "within_150": round(sum(ms <= WITHIN_MS for ms in times) / len(times), 4),
        }


def _counted(found: Counter[str]) -> str:
    return " ".join(f"{name} {number}" for name, number in found.most_common())


if __name__ == "__main__":
    main()
