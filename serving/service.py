"""The feed service: one object that answers every feed request, behind `contracts.feed.Feeds`."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock, RLock
from typing import Any, Final

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from contracts.clock import SECOND_US, Clock
from contracts.degrade import DegradeReason, RemovalReason, SourceName
from contracts.errors import CursorExpired, NotFound, Unavailable
from contracts.events import EventType
from contracts.feed import (
    Explanation,
    FeedItem,
    FeedPage,
    Preview,
    RankedCandidates,
    ReasonCode,
)
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.event_arrays import int_column
from features.workspace import Workspace
from serving.bundles import BundleWatcher
from serving.candidates import Candidates
from serving.columns import POST_ID, SLOT, SOURCES
from serving.fallback import FallbackLadder
from serving.follower import LogFollower
from serving.lineup import Lineup, Ranking, RankingBuilder
from serving.pipeline import Ranked, StageFailed
from serving.policies import PolicyShelf
from serving.proof.explain import explain_post
from serving.proof.previews import preview_of, wished_key
from serving.proof.why_not import Looker
from serving.reasons import reasons_of
from serving.records.builder import (
    fallback_record,
    page_record,
    record_of,
    snapshot_from_record,
    snapshot_of,
)
from serving.records.keeping import RecordKeeper
from serving.records.writer import RecordStore
from serving.runtime import Runtime
from serving.snapshots import Snapshot, SnapshotCache
from serving.stages.filters import still_visible
from serving.watching.funnel import Funnel
from serving.watching.shadow import Shadow

_log = structlog.get_logger(__name__)

_NEW_POST_TYPES: Final = (EventType.POST_CREATED, EventType.POST_EDITED)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a feed service is put together from; `serving.opening` does it."""

    workspace: Workspace
    builder: RankingBuilder
    champion: Ranking
    records: RecordStore
    policies: PolicyShelf


class FeedService:
    """Ranks feeds, keeps their snapshots, writes their records, and follows the event log.

    One lock orders everything: a feed sees the log applied up to one position, never in between.
    Whoever reads the caches beside the requests holds the log lock instead, which keeps the log
    from being applied, and is taken before the other.
    """

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._workspace = workspace = parts.workspace
        self._cache = parts.builder.cache
        self._records = parts.records
        self._policies = parts.policies
        self._access = parts.builder.access
        self._served = parts.builder.served
        self._snapshots = SnapshotCache()
        # Without a bundle: the ladder needs none, and would hold what served before.
        self._fallback = FallbackLadder(Runtime(None, self._cache), self._snapshots, self._access)
        self._clock = Clock(settings.clock_offset_seconds * SECOND_US)
        self._keep_us = int(settings.snapshot_minutes * 60 * SECOND_US)
        self._lock = RLock()
        self._log_lock = Lock()
        self._lineup = Lineup(parts.champion)
        reports = workspace.home / "bundles" if workspace.writable else None
        self._shadow = Shadow(parts.builder, self._log_lock, reports)
        self._funnel = Funnel(parts.builder, workspace.log, self._log_lock)
        self._bundles = BundleWatcher(
            workspace, parts.builder, self._lineup, self._log_lock, self._change_over
        )
        self._follower = LogFollower(
            workspace.log, self._cache.applied_seq, self._apply, compacts=workspace.writable
        )
        self._keeper = RecordKeeper(parts.records, workspace.log, settings.record_days, self._clock)
        self._yield: Counter[str] = Counter()

    def start(self) -> None:
        """Catch up with the log, load what serves beside the champion, and follow both."""
        self._follower.catch_up()
        self._bundles.start()
        self._shadow.start()
        self._funnel.start()
        self._follower.start()
        if self._workspace.writable:
            self._keeper.start()

    def open(self, query: FeedQuery) -> FeedPage:
        """See `Feeds`."""
        with self._lock:
            ranking, query = self._lineup.pick(query)
            snapshot, ranked = self._rank_or_fall(ranking, query)
            self._snapshots.put(snapshot)
            page = self._page(snapshot, 0, query.limit)
        served = ranked if ranked and len(ranked.selected.slate) else None
        self._records.put(self._recording(query, served, snapshot))
        if page.gaps:
            self._record_page(page, 0)
        if served is not None:
            self._yield.update(served.trace.source_yield)
            if ranking is self._lineup.champion:
                self._shadow.offer(served)
        self._funnel.add(snapshot, ranked, self._lineup.champion)
        return page

    def page(
        self, feed_id: int, viewer_id: int, offset: int, limit: int, reader_id: int | None = None
    ) -> FeedPage:
        """See `Feeds`; another viewer's feed is as unknown as none."""
        snapshot = self._snapshots.get(feed_id)
        if snapshot is None:
            record = self._records.find(feed_id)
            if record is not None:
                policy = self._policies.by_hash(record["policy_hash"])
                snapshot = snapshot_from_record(record, policy)
        if snapshot is None or snapshot.viewer_id != viewer_id:
            raise CursorExpired("this feed is not kept any more", hint="ask for a new feed")
        if self._clock.now_us() - snapshot.now_us > self._keep_us:
            raise CursorExpired("this feed has grown old", hint="ask for a new feed")
        with self._lock:
            page = self._page(snapshot, offset, limit, reader_id)
        self._record_page(page, offset)
        return page

    def rank(self, query: FeedQuery, post_ids: NDArray[np.int64]) -> RankedCandidates:
        """See `Feeds`; unknown posts are left out. Unavailable where a stage cannot go on."""
        with self._lock:
            ranking, query = self._lineup.pick(query)
            policy = ranking.policy
            selection = policy.selection.model_copy(update={"reserve": len(post_ids)})
            steady = policy.exploration.model_copy(update={"temperature": 0.0})
            wide = policy.model_copy(update={"selection": selection, "exploration": steady})
            slots = np.unique(self._cache.posts.slots_of(post_ids))
            slots = slots[slots >= 0]
            bits = np.full(len(slots), SourceName.CALLER.bit, dtype=np.int32)
            try:
                ranked = ranking.pipeline.rank(
                    query, wide, Candidates({SLOT: slots, SOURCES: bits})
                )
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
            bundle_id=ranking.bundle_id,
        )

    def explain(self, feed_id: int, viewer_id: int | None, post_id: int) -> Explanation:
        """See `Feeds`."""
        record = self._record(feed_id)
        if record is None or (viewer_id is not None and record["viewer_id"] != viewer_id):
            raise NotFound("there is no record of this feed")
        policy = self._policies.by_hash(record["policy_hash"])
        looker = Looker(self._lineup, record, policy, self._served, self._lock)
        return explain_post(record, policy, post_id, looker.look, looker.predict)

    def preview(self, viewer_id: int, wish: EventType, post_id: int) -> Preview:
        """See `Feeds`."""
        latest = self._snapshots.latest(viewer_id)
        record = self._record(latest.feed_id) if latest is not None else None
        slot = int(self._cache.posts.slots_of(np.array([post_id]))[0])
        if record is None or slot < 0:
            raise NotFound("there is no recorded feed of this viewer, or no such post")
        policy = self._policies.by_hash(record["policy_hash"])
        found = preview_of(record, policy, wish, wished_key(self._cache, wish, slot))
        with self._lock:
            served, otherwise = (
                self._visible(viewer_id, posts) for posts in (found.served, found.otherwise)
            )
        return replace(found, served=served, otherwise=otherwise)

    def _visible(self, viewer_id: int, post_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Keep the posts that a viewer may be shown now."""
        ids = np.array(post_ids, dtype=np.int64)
        slots = self._cache.posts.slots_of(ids)
        kept: tuple[int, ...] = tuple(
            ids[still_visible(self._cache, self._access, viewer_id, slots)].tolist()
        )
        return kept

    def _record(self, feed_id: int) -> dict[str, Any] | None:
        """Find a record, waiting once for what is queued."""
        record = self._records.find(feed_id)
        if record is None:
            self._records.flush()
            record = self._records.find(feed_id)
        return record

    def wait_applied(self, seq: int, timeout_seconds: float) -> bool:
        """See `Feeds`."""
        return self._follower.wait_applied(seq, timeout_seconds)

    def health(self) -> Mapping[str, object]:
        """See `Feeds`."""
        cache, champion = self._cache, self._lineup.champion
        return {
            "ready": self._follower.healthy and self._records.writing,
            "bundle_id": champion.bundle_id or None,
            "bundles": self._bundles.health(),
            "shadow": self._shadow.report(),
            "policy": champion.policy.name,
            "policy_hash": champion.policy.hash,
            "posts": len(cache.posts),
            "people": len(cache.people),
            "applied_seq": self._follower.applied_seq,
            "log_seq": self._workspace.log.last_seq,
            "ranker_healthy": champion.ranker.healthy(),
            "records_written": self._records.written,
            "records_lost": self._records.lost,
            "open_breakers": list(champion.pipeline.open_breakers),
            "funnel": self._funnel.report(champion, self._follower.applied_seq).model_dump(),
            "source_yield": {str(name): int(rows) for name, rows in self._yield.items()},
        }

    def close(self) -> None:
        """See `Feeds`."""
        self._bundles.stop()
        self._follower.stop()
        self._shadow.stop()
        self._funnel.stop()
        self._keeper.stop()
        self._records.close()
        for ranking in self._lineup.rankings.values():
            ranking.ranker.close()

    def _recording(
        self, query: FeedQuery, ranked: Ranked | None, snapshot: Snapshot
    ) -> Callable[[], dict[str, Any]]:
        cache = self._cache
        if ranked is None:
            return partial(fallback_record, query, snapshot, cache.applied_seq)
        return partial(
            record_of, ranked, snapshot, cache.people.person_id, cache.posts.topics_index.ids
        )

    def _record_page(self, page: FeedPage, offset: int) -> None:
        now_us, log_seq = self._clock.now_us(), self._cache.applied_seq
        self._records.put_page(partial(page_record, page, offset, now_us, log_seq))

    def _change_over(self, lineup: Lineup) -> None:
        """Serve another lineup from now on; called under the log lock."""
        for ranking in lineup.rankings.values():
            self._policies.keep(ranking.policy)
        with self._lock:
            self._lineup = lineup
            self._policies.current = lineup.champion.policy
        self._shadow.use(lineup.shadow, lineup.champion.bundle_id)

    def _rank_or_fall(self, ranking: Ranking, query: FeedQuery) -> tuple[Snapshot, Ranked | None]:
        policy, policy_hash = ranking.policy, self._policies.hash_of(ranking.policy)
        try:
            ranked = ranking.pipeline.run(query, policy)
        except StageFailed as failure:
            _log.error(
                "feed_failed", feed_id=query.feed_id, cause=str(failure.__cause__ or failure)
            )
            return self._fallback.answer(query, failure.reasons, policy_hash), None
        if ranked.trace.failures:
            _log.warning("feed_degraded", feed_id=query.feed_id, failures=ranked.trace.failures)
        if not len(ranked.selected.slate):
            reasons = (DegradeReason.NO_CANDIDATES, *ranked.trace.reasons)
            return self._fallback.answer(query, reasons, policy_hash), ranked
        if not ranking.bundle_id:
            ranked.trace.reasons.append(DegradeReason.NO_BUNDLE)
        rows = np.concatenate([ranked.selected.slate, ranked.selected.reserve])
        cache = self._cache
        ids = cache.posts.post_id
        seeds = {found: int(ids[seed]) for found, seed in ranked.context.seeds.items()}
        reasons_by_row = reasons_of(
            ranked.candidates, rows, cache.people.person_id, cache.posts.topics_index.ids, seeds
        )
        return snapshot_of(ranked, reasons_by_row, ranking.bundle_id, policy_hash), ranked

    def _page(
        self, snapshot: Snapshot, offset: int, limit: int, reader_id: int | None = None
    ) -> FeedPage:
        reader = snapshot.viewer_id if reader_id is None else reader_id
        stop = min(offset + limit, len(snapshot.post_ids))
        ids = snapshot.post_ids[offset:stop]
        slots = self._cache.posts.slots_of(ids)
        visible = still_visible(self._cache, self._access, reader, slots)
        self._served.add(reader, snapshot.now_us, slots[visible])
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

    def _apply(self, events: pa.Table) -> None:
        types = events.column("type").to_numpy()
        created = np.isin(types, _NEW_POST_TYPES)
        with self._log_lock, self._lock:
            self._cache.apply(events, self._workspace)
            if created.any():
                ids = np.unique(int_column(events, "post_id")[created])
                for ranking in self._lineup.rankings.values():
                    rows = ranking.runtime.rows_of(self._cache.posts.slots_of(ids))
                    ranking.runtime.add_posts(self._workspace.catalog.posts_by_id(ids[rows < 0]))
        self._funnel.observe(events)
        if (types == EventType.PERSON_ERASED).any():
            self._keeper.wake()


def _reference(value: int) -> int | None:
    return None if value < 0 else value
