"""The lower rungs: what is answered when the pipeline cannot rank at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from contracts.degrade import DEGRADE_ORDER, DegradeLevel, DegradeReason
from contracts.feed import ReasonCode
from contracts.query import FeedQuery
from serving.components import Fault, OnError
from serving.pipeline import StageRunner
from serving.runtime import Runtime
from serving.snapshots import Snapshot, SnapshotCache
from serving.stages.filters import AccessRule, still_visible
from serving.stages.sources import newest_of
from serving.trace import Trace

Slots = NDArray[np.int64]

_NONE: Final = np.empty(0, dtype=np.int64)
_LENGTH: Final = 100
_POOL: Final = 1000
"""Posts looked at for `_LENGTH` visible ones."""
_FRESH_ENOUGH_US: Final = 24 * HOUR_US
_STEP_OVER: Final = Fault(OnError.SKIP, DegradeReason.FEED_FAILED)
_SERVABLE: Final = DEGRADE_ORDER[: DEGRADE_ORDER.index(DegradeLevel.CACHED) + 1]


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the ladder, run like any component: a rung that fails is stepped over."""

    name: str
    find: Callable[[FeedQuery], Snapshot | None]
    """Query to a feed of posts that its viewer may see; None: has none."""
    fault: Fault = _STEP_OVER


class FallbackLadder:
    """Cached, then following, then trending: no model, no ranker, hardly any code to fail."""

    def __init__(self, runtime: Runtime, snapshots: SnapshotCache, access: AccessRule) -> None:
        self._runtime = runtime
        self._snapshots = snapshots
        self._access = access
        self._runner = StageRunner()
        self._rungs = (
            Rung("fallback.cached", self._cached),
            Rung("fallback.following", self._following),
            Rung("fallback.trending", self._trending),
            Rung("fallback.newest", self._newest),
        )

    def answer(
        self, query: FeedQuery, reasons: tuple[DegradeReason, ...], policy_hash: str
    ) -> Snapshot:
        """Give the best rung that has visible posts; without posts only where none has any."""
        trace = Trace(reasons=list(reasons))
        for rung in self._rungs:
            found = self._runner.guard(rung, trace, rung.find, query)
            if found is not None and len(found.post_ids):
                break
        else:
            found = self._snapshot(query, _NONE, DegradeLevel.TRENDING, ReasonCode.TRENDING)
        return replace(found, degrade_reasons=tuple(trace.reasons), policy_hash=policy_hash)

    def _cached(self, query: FeedQuery) -> Snapshot | None:
        last = self._snapshots.latest(query.viewer_id)
        if last is None or last.level not in _SERVABLE:
            return None
        if query.now_us - last.now_us >= _FRESH_ENOUGH_US:
            return None
        slots = self._runtime.cache.posts.slots_of(last.post_ids)
        keep = np.flatnonzero(self._visible(query, slots))
        return replace(
            last,
            feed_id=query.feed_id,
            now_us=query.now_us,
            post_ids=last.post_ids[keep],
            reason_codes=tuple(last.reason_codes[row] for row in keep.tolist()),
            reason_refs=last.reason_refs[keep],
            values=last.values[keep],
            level=DegradeLevel.CACHED,
        )

    def _following(self, query: FeedQuery) -> Snapshot:
        viewer = self._runtime.cache.people.index.slot_of(query.viewer_id)
        followees = self._runtime.cache.graph.followees(viewer).astype(np.int64)
        slots = newest_of(self._runtime, followees, _POOL)
        slots = slots[self._visible(query, slots)]
        return self._snapshot(query, slots, DegradeLevel.FOLLOWING, ReasonCode.FOLLOWING)

    def _trending(self, query: FeedQuery) -> Snapshot:
        slots = self._runtime.trending.top(query.now_us, _POOL)
        slots = slots[self._visible(query, slots)]
        return self._snapshot(query, slots, DegradeLevel.TRENDING, ReasonCode.TRENDING)

    def _newest(self, query: FeedQuery) -> Snapshot:
        """Look at every post there is: slow, and asked only where all of the above has nothing."""
        posts = self._runtime.cache.posts
        slots = np.arange(len(posts), dtype=np.int64)
        slots = slots[self._visible(query, slots)]
        slots = slots[np.lexsort((slots, -posts.created_us[slots]))]
        return self._snapshot(query, slots, DegradeLevel.TRENDING, ReasonCode.NEW_POST)

    def _visible(self, query: FeedQuery, slots: Slots) -> NDArray[np.bool_]:
        return still_visible(self._runtime.cache, self._access, query.viewer_id, slots)

    def _snapshot(
        self, query: FeedQuery, slots: Slots, level: DegradeLevel, reason: ReasonCode
    ) -> Snapshot:
        posts, people = self._runtime.cache.posts, self._runtime.cache.people
        slots = slots[:_LENGTH]
        refs = np.full(len(slots), -1, dtype=np.int64)
        if reason is ReasonCode.FOLLOWING:
            refs = people.person_id[posts.author_slot[slots].astype(np.int64)]
        return Snapshot(
            query.feed_id, query.viewer_id, query.now_us, posts.post_id[slots],
            (reason.value,) * len(slots), refs, -np.arange(len(slots), dtype=np.float64),
            level, (), "", "", 1.0 if level is DegradeLevel.FOLLOWING else 0.0,
        )  # fmt: skip
