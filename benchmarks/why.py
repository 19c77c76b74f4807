"""Why, why here, why not: the time of one explanation, for random posts of the whole corpus.

Feeds are opened in this process, then random posts of the corpus are explained, and posts that the
feeds hold. The home is that of the latency benchmark where it is there, otherwise its quick one;
`--home` names another.
"""

import argparse
from collections import Counter
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np

from benchmarks.latency import QUICK, prepare
from benchmarks.measure import BENCH, Row, finish, percentiles
from contracts.clock import SECOND_US, Clock
from contracts.feed import Explanation
from contracts.ids import FeedId, UserId
from contracts.query import FeedQuery
from contracts.settings import load_settings
from features.workspace import Workspace
from feed_api.platform.why import why_of
from serving.opening import open_service
from serving.service import FeedService
from serving.stages.decision import Decision

COLUMNS = (
    "posts", "outcome", "explanations", "p50_ms", "p95_ms", "p99_ms", "max_ms", "cpu_p95_ms",
    "from_record", "flips", "flips_tried_mean",
)  # fmt: skip
FEEDS = 50
WARM = 5


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    home = arguments.home or _home()
    generator = np.random.default_rng(0)
    settings = load_settings()
    now_us = Clock(settings.clock_offset_seconds * SECOND_US).now_us()
    with Workspace.open(home, read_only=True) as workspace:
        service = open_service(workspace, settings, start=False)
        people, posts = service._cache.people.person_id, service._cache.posts.post_id
        feeds = [FeedId(int(n)) for n in generator.integers(1, 2**62, FEEDS)]
        for feed in feeds:
            service.open(FeedQuery(feed, UserId(int(generator.choice(people))), now_us, 20))
        held = [Decision.of(service._record(feed)).ordered_ids for feed in feeds]
        asked = {
            "of the corpus": generator.choice(posts, arguments.explanations).tolist(),
            "of the feeds": [int(generator.choice(held[k % FEEDS])) for k in range(4 * FEEDS)],
        }
        explain = partial(_explain, workspace, service)
        for k, feed in enumerate(feeds[:WARM]):
            explain(feed, int(posts[k]))
        rows: list[Row] = []
        for name, chosen in asked.items():
            timed = [explain(feeds[k % FEEDS], post) for k, post in enumerate(chosen)]
            outcomes = ("all", *sorted({t.found.outcome for t in timed}))
            rows.extend(_row(name, outcome, timed) for outcome in outcomes)
            changes = Counter(t.found.flip.change if t.found.flip else "none" for t in timed)
            print(f"changes named for posts {name}:", dict(changes.most_common()))
        service.close()
    print(f"{home}: {len(posts):,} posts, {len(people):,} people, {FEEDS} feeds")
    finish("why", rows, COLUMNS)


class Timed(NamedTuple):
    """One explanation, words included, and the seconds that it took."""

    found: Explanation
    wall: float
    cpu: float


def _explain(workspace: Workspace, service: FeedService, feed: int, post: int) -> Timed:
    started, spent = perf_counter(), process_time()
    found = service.explain(feed, None, post)
    why_of(workspace, found)
    return Timed(found, perf_counter() - started, process_time() - spent)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home with a published bundle")
    parser.add_argument("--explanations", type=int, default=1000)
    return parser.parse_args()


def _home() -> Path:
    if (BENCH / "latency" / "bundles" / "CHAMPION").exists():
        return BENCH / "latency"
    prepare(BENCH / "latency-quick", QUICK)
    return BENCH / "latency-quick"


def _row(posts: str, outcome: str, timed: list[Timed]) -> Row:
    mine = [t for t in timed if outcome in {t.found.outcome, "all"}]
    return {
        "posts": posts,
        "outcome": outcome,
        "explanations": len(mine),
        **percentiles([t.wall for t in mine]),
        "max_ms": round(1000 * max(t.wall for t in mine), 2),
        "cpu_p95_ms": percentiles([t.cpu for t in mine])["p95_ms"],
        "from_record": sum(t.found.from_record for t in mine),
        "flips": sum(t.found.flip is not None for t in mine),
        "flips_tried_mean": round(float(np.mean([t.found.flips_tried for t in mine])), 2),
    }


if __name__ == "__main__":
    main()
