"""The feed service: one object that answers every feed request, behind `contracts.feed.Feeds`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import Final

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from contracts.clock import SECOND_US, Clock
from contracts.degrade import DegradeReason, RemovalReason, SourceName
from contracts.errors import CursorExpired, NotFound, Unavailable
from contracts.events import EventType
from contracts.feed import Explanation, FeedItem, FeedPage, RankedCandidates, ReasonCode
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.candidates import POST_ID, SLOT, SOURCES, Candidates
from serving.explain import explain_record
from serving.fallback import FallbackLadder
from serving.filters import AccessRule
from serving.follower import LogFollower
from serving.home_feed import home_feed
from serving.pipeline import Ranked, StageFailed
from serving.policies import PolicyShelf
from serving.ranker import RankerClient
from serving.reasons import reasons_of
from serving.record_builder import record_of, snapshot_from_record, snapshot_of
from serving.records import RecordStore
from serving.runtime import Runtime
from serving.snapshots import ServedLog, Snapshot, SnapshotCache

_log = structlog.get_logger(__name__)

_NEW_POST_TYPES: Final = (EventType.POST_CREATED, EventType.POST_EDITED)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a feed service is put together from; `serving.opening` does it."""

    workspace: Workspace
    runtime: Runtime
    ranker: RankerClient
    records: RecordStore
    policies: PolicyShelf
    access: AccessRule
    writes_log: bool
    """This process may write to the workspace, so it also compacts the log."""


class FeedService:
    """Ranks feeds, keeps their snapshots, writes their records, and follows the event log.

    One lock orders everything: a feed sees the log applied up to one position, never in between.
    """

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._workspace = workspace = parts.workspace
        self._runtime = runtime = parts.runtime
        self._ranker = ranker = parts.ranker
        self._records = parts.records
        self._policies = parts.policies
        self._access = access = parts.access
        self._clock = Clock(settings.clock_offset_seconds * SECOND_US)
        self._keep_us = int(settings.snapshot_minutes * 60 * SECOND_US)
        self._lock = RLock()
        self._served = ServedLog()
        self._snapshots = SnapshotCache()
        self._pipeline = home_feed(
            runtime, ranker, access, self._served, settings.source_deadline_ms
        )
        self._fallback = FallbackLadder(runtime, self._snapshots, access)
        self._follower = LogFollower(
            workspace.log, runtime.cache.applied_seq, self._apply, compacts=parts.writes_log
        )
        self._yield: Counter[str] = Counter()

    def start(self) -> None:
        """Catch up with the log, then follow it."""
        self._follower.catch_up()
        self._follower.start()

    def open(self, query: FeedQuery) -> FeedPage:
        """See `Feeds`."""
        with self._lock:
            snapshot, ranked = self._rank_or_fall(query)
            self._snapshots.put(snapshot)
            page = self._page(snapshot, 0, query.limit)
        if ranked is not None:
            self._yield.update(ranked.trace.source_yield)
            self._records.put(partial(record_of, ranked, snapshot))
        return page

    def page(self, feed_id: int, viewer_id: int, offset: int, limit: int) -> FeedPage:
        """See `Feeds`; another viewer's feed is as unknown as none."""
        snapshot = self._snapshots.get(feed_id)
        if snapshot is None:
            record = self._records.find(feed_id)
            snapshot = snapshot_from_record(record) if record else None
        if snapshot is None or snapshot.viewer_id != viewer_id:
            raise CursorExpired("this feed is not kept any more", hint="ask for a new feed")
        if self._clock.now_us() - snapshot.now_us > self._keep_us:
            raise CursorExpired("this feed has grown old", hint="ask for a new feed")
        with self._lock:
            return self._page(snapshot, offset, limit)

    def rank(self, query: FeedQuery, post_ids: NDArray[np.int64]) -> RankedCandidates:
        """See `Feeds`; unknown posts are left out. Unavailable where a stage cannot go on."""
        policy = self._policies.current
        selection = policy.selection.model_copy(update={"reserve": len(post_ids)})
        wide = policy.model_copy(update={"selection": selection})
        with self._lock:
            slots = np.unique(self._runtime.cache.posts.slots_of(post_ids))
            slots = slots[slots >= 0]
            bits = np.full(len(slots), SourceName.CALLER.bit, dtype=np.int32)
            try:
                ranked = self._pipeline.rank(query, wide, Candidates({SLOT: slots, SOURCES: bits}))
            except StageFailed as failure:
                msg = f"the candidates could not be ranked: {failure.reason}"
                raise Unavailable(msg, hint="try again") from failure
        rows = np.concatenate([ranked.selected.slate, ranked.selected.reserve])
        reasons = (RemovalReason(code).word for code in ranked.removed.reasons.tolist())
        return RankedCandidates(
            post_ids=ranked.candidates[POST_ID][rows],
            values=ranked.ledger.value[rows],
            removed=dict(zip(ranked.removed.post_ids.tolist(), reasons, strict=True)),
            level=ranked.trace.level,
            degrade_reasons=tuple(ranked.trace.reasons),
            policy_hash=policy.hash,
            bundle_id=self._bundle_id,
        )

    def explain(self, feed_id: int, viewer_id: int | None, post_id: int) -> Explanation:
        """See `Feeds`."""
        record = self._records.find(feed_id)
        if record is None:
            self._records.flush()
            record = self._records.find(feed_id)
        if record is None or (viewer_id is not None and record["viewer_id"] != viewer_id):
            raise NotFound("there is no record of this feed")
        return explain_record(record, self._policies.by_hash(record["policy_hash"]), post_id)

    def wait_applied(self, seq: int, timeout_seconds: float) -> bool:
        """See `Feeds`."""
        return self._follower.wait_applied(seq, timeout_seconds)

    def health(self) -> Mapping[str, object]:
        """See `Feeds`."""
        cache = self._runtime.cache
        return {
            "bundle_id": self._bundle_id or None,
            "policy": self._policies.current.name,
            "policy_hash": self._policies.current.hash,
            "posts": len(cache.posts),
            "people": len(cache.people),
            "applied_seq": self._follower.applied_seq,
            "log_seq": self._workspace.log.last_seq,
            "ranker_healthy": self._ranker.healthy(),
            "records_written": self._records.written,
            "source_yield": {str(name): int(rows) for name, rows in self._yield.items()},
        }

    def close(self) -> None:
        """See `Feeds`."""
        self._follower.stop()
        self._records.close()
        self._ranker.close()

    @property
    def _bundle_id(self) -> str:
        return self._runtime.bundle.bundle_id if self._runtime.bundle else ""

    def _rank_or_fall(self, query: FeedQuery) -> tuple[Snapshot, Ranked | None]:
        policy = self._policies.current
        try:
            ranked = self._pipeline.run(query, policy)
        except StageFailed as failure:
            _log.error(
                "feed_failed", feed_id=query.feed_id, cause=str(failure.__cause__ or failure)
            )
            return self._fallback.answer(query, (failure.reason,), policy.hash), None
        if ranked.trace.failures:
            _log.warning("feed_degraded", feed_id=query.feed_id, failures=ranked.trace.failures)
        if not len(ranked.selected.slate):
            reasons = (DegradeReason.NO_CANDIDATES, *ranked.trace.reasons)
            return self._fallback.answer(query, reasons, policy.hash), None
        if self._runtime.bundle is None:
            ranked.trace.reasons.append(DegradeReason.NO_BUNDLE)
        rows = np.concatenate([ranked.selected.slate, ranked.selected.reserve])
        cache = self._runtime.cache
        ids = cache.posts.post_id
        seeds = {found: int(ids[seed]) for found, seed in ranked.context.seeds.items()}
        reasons_by_row = reasons_of(
            ranked.candidates, rows, cache.people.person_id, cache.posts.topics_index.ids, seeds
        )
        return snapshot_of(ranked, reasons_by_row, self._bundle_id), ranked

    def _page(self, snapshot: Snapshot, offset: int, limit: int) -> FeedPage:
        stop = min(offset + limit, len(snapshot.post_ids))
        ids = snapshot.post_ids[offset:stop]
        slots = self._runtime.cache.posts.slots_of(ids)
        visible = self._still_visible(snapshot.viewer_id, ids, slots)
        self._served.add(snapshot.viewer_id, snapshot.now_us, slots[visible])
        items = tuple(
            FeedItem(
                offset + place,
                int(ids[place]),
                ReasonCode(snapshot.reason_codes[offset + place]),
                _reference(int(snapshot.reason_refs[offset + place])),
                float(snapshot.values[offset + place]),
            )
            for place in np.flatnonzero(visible).tolist()
        )
        return FeedPage(
            snapshot.feed_id, snapshot.viewer_id, items,
            stop if stop < len(snapshot.post_ids) else None, snapshot.level,
            snapshot.degrade_reasons, snapshot.policy_hash, snapshot.bundle_id,
            snapshot.followed_share, int((~visible).sum()),
        )  # fmt: skip

    def _still_visible(
        self, viewer_id: int, ids: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        cache = self._runtime.cache
        known = slots >= 0
        rows = np.where(known, slots, 0)
        authors = cache.posts.author_slot[rows].astype(np.int64)
        viewer = cache.people.index.slot_of(viewer_id)
        graph = cache.graph
        banned = np.concatenate(
            [graph.blocked(viewer), graph.blocked_by(viewer), graph.muted(viewer)]
        )
        allowed = self._access.visible(viewer_id, ids, authors)
        visible: NDArray[np.bool_] = (
            known & ~cache.posts.deleted[rows] & ~np.isin(authors, banned) & allowed
        )
        return visible

    def _apply(self, events: pa.Table) -> None:
        created = np.isin(events.column("type").to_numpy(), _NEW_POST_TYPES)
        with self._lock:
            self._runtime.cache.apply(events, self._workspace)
            if created.any():
                ids = np.unique(events.column("post_id").to_numpy(zero_copy_only=False)[created])
                new = ids[self._runtime.rows_of(self._runtime.cache.posts.slots_of(ids)) < 0]
                self._runtime.add_posts(self._workspace.catalog.posts_by_id(new.astype(np.int64)))


def _reference(value: int) -> int | None:
    return None if value < 0 else value
