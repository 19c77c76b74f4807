"""The lower rungs: what is answered when the pipeline cannot rank at all."""

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.feed import ReasonCode
from contracts.query import FeedQuery
from serving.filters import AccessRule
from serving.runtime import Runtime
from serving.snapshots import Snapshot, SnapshotCache
from serving.sources import newest_of

_LENGTH = 100
_FRESH_ENOUGH_US = 24 * 3600 * 1_000_000


class FallbackLadder:
    """Cached, then following, then trending: no model, no ranker, hardly any code to fail."""

    def __init__(self, runtime: Runtime, snapshots: SnapshotCache, access: AccessRule) -> None:
        self._runtime = runtime
        self._snapshots = snapshots
        self._access = access

    def answer(
        self, query: FeedQuery, reasons: tuple[DegradeReason, ...], policy_hash: str
    ) -> Snapshot:
        """Give the best of the three that has posts."""
        cached = self._snapshots.latest(query.viewer_id)
        if cached is not None and query.now_us - cached.now_us < _FRESH_ENOUGH_US:
            return Snapshot(
                query.feed_id, query.viewer_id, query.now_us, cached.post_ids, cached.reason_codes,
                cached.reason_refs, cached.values, DegradeLevel.CACHED, reasons, policy_hash,
                cached.bundle_id, cached.followed_share,
            )  # fmt: skip
        cache = self._runtime.cache
        viewer = cache.people.index.slot_of(query.viewer_id)
        followees = cache.graph.followees(viewer).astype(np.int64)
        following = self._visible(query, viewer, newest_of(self._runtime, followees, _LENGTH))
        if len(following):
            return self._snapshot(
                query, following, DegradeLevel.FOLLOWING, ReasonCode.FOLLOWING, reasons, policy_hash
            )
        trending = self._visible(query, viewer, self._runtime.trending.top(query.now_us, _LENGTH))
        return self._snapshot(
            query, trending, DegradeLevel.TRENDING, ReasonCode.TRENDING, reasons, policy_hash
        )

    def _visible(
        self, query: FeedQuery, viewer: int, slots: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        posts, graph = self._runtime.cache.posts, self._runtime.cache.graph
        authors = posts.author_slot[slots].astype(np.int64)
        banned = np.concatenate(
            [graph.blocked(viewer), graph.blocked_by(viewer), graph.muted(viewer)]
        )
        allowed = self._access.visible(query.viewer_id, posts.post_id[slots], authors)
        return slots[~posts.deleted[slots] & ~np.isin(authors, banned) & allowed]

    def _snapshot(
        self,
        query: FeedQuery,
        slots: NDArray[np.int64],
        level: DegradeLevel,
        reason: ReasonCode,
        reasons: tuple[DegradeReason, ...],
        policy_hash: str,
    ) -> Snapshot:
        posts, people = self._runtime.cache.posts, self._runtime.cache.people
        authors = posts.author_slot[slots].astype(np.int64)
        refs = np.full(len(slots), -1, dtype=np.int64)
        if reason is ReasonCode.FOLLOWING:
            refs = people.person_id[authors]
        return Snapshot(
            query.feed_id, query.viewer_id, query.now_us, posts.post_id[slots],
            (reason.value,) * len(slots), refs, -np.arange(len(slots), dtype=np.float64),
            level, reasons, policy_hash, "", 1.0 if level is DegradeLevel.FOLLOWING else 0.0,
        )  # fmt: skip
