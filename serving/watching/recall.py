"""What did the sources miss? Sampled feeds are searched exhaustively, behind the response."""

from collections import deque
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel
from contracts.errors import HeadwaterError
from contracts.funnel import Recall
from contracts.order import largest
from models.base import Family
from serving.aside import Aside
from serving.candidates import Candidates
from serving.columns import POST_ID, SLOT, SOURCES
from serving.context import QueryContext
from serving.lineup import Ranking, RankingBuilder
from serving.pipeline import Ranked, StageFailed
from serving.runtime import Runtime
from serving.snapshots import ServedLog
from serving.stages.selection import by_value

BEST: Final = 100
SCORED: Final = 3000
"""Posts that go through hydrators, filters and ranker: all, or the best by retrieval blend."""
_KEPT: Final = 1000
_MASK_64: Final = (1 << 64) - 1

_log = structlog.get_logger(__name__)


class _Served(NamedTuple):
    ranking: Ranking
    ranked: Ranked


class RecallProbe:
    """Ranks all posts for a sampled share of feeds: were the best of them candidates?"""

    def __init__(self, builder: RankingBuilder, log_lock: Lock) -> None:
        self._builder = builder
        self._log_lock = log_lock
        self._share = builder.settings.recall_share
        self._found: deque[float] = deque(maxlen=_KEPT)
        self.aside = Aside[_Served]("recall", self._search)

    def offer(self, ranking: Ranking, ranked: Ranked) -> None:
        """Take a feed that was ranked in full, if it is its turn."""
        if not sampled(ranked.context.query.feed_id, self._share):
            return
        if ranked.trace.level is DegradeLevel.FULL and ranked.context.vectors:
            self.aside.offer(_Served(ranking, ranked))

    def report(self) -> Recall | None:
        """Sum up; None before the first search."""
        found = np.array(self._found)
        if not len(found):
            return None
        lowest = float(np.percentile(found, 10))
        return Recall(feeds=len(found), mean=float(found.mean()), lowest=lowest)

    def _search(self, served: _Served) -> None:
        """Rank everything as the request was ranked: its clock, and what was served before it."""
        ranking, context = served.ranking, served.ranked.context
        before = ServedLog(viewers=1, pages=1)
        before.add(context.query.viewer_id, context.query.now_us, context.served)
        pipeline = self._builder.pipeline(ranking.runtime, ranking.ranker, before)
        blend = blended(ranking.runtime, context)
        retrieved = served.ranked.candidates[SLOT]
        with self._log_lock:
            slots = best_live(ranking.runtime, blend, retrieved)
            everything = Candidates({SLOT: slots, SOURCES: np.zeros(len(slots), dtype=np.int32)})
            try:
                again = pipeline.rank(context.query, context.policy, everything)
            except (StageFailed, HeadwaterError) as error:
                _log.warning("recall_failed", cause=str(error.__cause__ or error))
                return
        if again.trace.level is not DegradeLevel.FULL:
            return
        ids = again.candidates[POST_ID]
        best = ids[by_value(again.ledger.value, ids)[:BEST]]
        if len(best):
            self._found.append(float(np.isin(best, served.ranked.candidates[POST_ID]).mean()))


def sampled(feed_id: int, share: float) -> bool:
    """Draw a share of feeds by id: Fibonacci hashing (Knuth, TAOCP 6.4), next to free."""
    return (feed_id * 0x9E3779B97F4A7C15 & _MASK_64) < share * _MASK_64


def blended(runtime: Runtime, context: QueryContext) -> NDArray[np.float32]:
    """Score every item row by the retrieval blend, [n]; NaN where no family can."""
    if runtime.bundle is None:
        return np.empty(0, dtype=np.float32)
    found = {
        Family(name): runtime.families[Family(name)].all_scores(vector)
        for name, vector in context.vectors.items()
    }
    most = max(len(scores) for scores in found.values())
    wide = {
        family: np.pad(scores, (0, most - len(scores)), constant_values=np.nan)
        for family, scores in found.items()
    }
    return runtime.bundle.blend.combine(wide)


def best_live(
    runtime: Runtime, blend: NDArray[np.float32], also: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the live slots with the best blend, and `also` [m] beside them, ascending."""
    posts = runtime.cache.posts
    if len(posts) <= SCORED:
        return np.flatnonzero(~posts.deleted[: len(posts)])
    rows = largest(np.where(np.isfinite(blend), blend, -np.inf), SCORED)
    slots = np.union1d(runtime.slot_of_row[rows], also)
    slots = slots[slots >= 0]
    return slots[~posts.deleted[slots]]
