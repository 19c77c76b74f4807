"""A post as things stand now, for the viewer and the hour of a recorded feed.

The record says what was. Of a post that it does not hold, this says which sources would find it at
which rank, which rules would remove it, and what selection would have consumed of it. The clock is
the record's; history, follows, counts and vectors are those of now.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from contracts.clock import SECOND_US
from contracts.degrade import RemovalReason, SourceName
from contracts.feed import SourceRank
from contracts.ids import FeedId, UserId
from contracts.policy import Policy
from contracts.query import FeedQuery
from serving import columns as col
from serving.candidates import Candidates, Column
from serving.context import QueryContext
from serving.lineup import Lineup
from serving.pipeline import StageFailed, StageRunner, Stages
from serving.proof.flip import Predict
from serving.proof.standing import Row
from serving.snapshots import ServedLog
from serving.stages.decision import Record
from serving.stages.scorers import adjustments
from serving.stages.sources import RankingSource
from serving.trace import Trace

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What can be said of one post now."""

    bundle_id: str
    actions_since: int
    """Events of the viewer that have arrived since the feed."""
    posted_after: bool = False
    """The feed was made before the post: nothing else is told."""
    rules: tuple[RemovalReason, ...] = ()
    """Every rule that would remove it, in their order."""
    sources: tuple[SourceRank, ...] = ()
    follow_rank: int | None = None
    """At which rank `in_network` would find it if the viewer followed its author."""
    row: Row | None = None
    """None where a part of the ranking did not answer."""


class _Seen(NamedTuple):
    context: QueryContext
    candidates: Candidates | None
    """One row, hydrated and scored; None where that failed."""
    rules: tuple[RemovalReason, ...]


class Looker:
    """Looks at posts for one record, with the stages of its bundle and breakers of their own."""

    def __init__(
        self,
        lineup: Lineup,
        record: Record,
        policy: Policy,
        served: ServedLog,
        lock: AbstractContextManager[object],
    ) -> None:
        """Take the champion's stages where the record's bundle is not loaded any more.

        `lock` is held while viewer and post are read, not while sources rank the post.
        """
        self._own = lineup.rankings.get(str(record["bundle_id"]))
        self._ranking = ranking = self._own or lineup.champion
        self._runtime = ranking.runtime
        self._stages: Stages = ranking.pipeline._stages
        self._record = record
        self._policy = policy
        self._served = served
        self._lock = lock
        self._runner = StageRunner()

    @property
    def predict(self) -> Predict | None:
        """Give the record's own ranker; None where it is not loaded."""
        bundle = self._own.runtime.bundle if self._own else None
        return bundle.ranker.predict if bundle else None

    def look(self, post_id: int) -> Look | None:
        """Look at a post; None where it is not known."""
        record, posts = self._record, self._runtime.cache.posts
        slot = int(posts.slots_of(np.array([post_id]))[0])
        if slot < 0:
            return None
        query = FeedQuery(
            FeedId(int(record["feed_id"])),
            UserId(int(record["viewer_id"])),
            int(record["now"]),
            int(record["limit"]),
        )
        trace = Trace()
        try:
            with self._lock:
                seen = self._read(query, slot, trace)
        except StageFailed as failure:
            _log.warning("look_failed", feed_id=query.feed_id, failure=str(failure))
            return Look(self._ranking.bundle_id, 0)
        since = seen.context.history_version - int(record["history_version"])
        if posts.created_us[slot] > query.now_us:
            return Look(self._ranking.bundle_id, since, posted_after=True)
        sources = self._sources(seen.context, slot, trace)
        row = None if seen.candidates is None else self._row(seen.candidates, query.now_us)
        follow_rank = self._follow_rank(seen.context, slot, trace)
        if trace.failures:
            _log.warning("look_degraded", feed_id=query.feed_id, failures=trace.failures)
        return Look(self._ranking.bundle_id, since, False, seen.rules, sources, follow_rank, row)

    def _read(self, query: FeedQuery, slot: int, trace: Trace) -> _Seen:
        run, stages = self._runner, self._stages
        context = run.must(stages.viewer, trace, stages.viewer.context, query, self._policy)
        context.served = self._served_before(query)
        for family in stages.families:
            run.guard(family, trace, family.fold_in, context)
        table: Candidates | None = Candidates(
            {col.SLOT: np.array([slot]), col.SOURCES: np.zeros(1, dtype=np.int32)}
        )
        for hydrator in stages.hydrators:
            if table is not None:
                columns = run.guard(hydrator, trace, hydrator.columns, context, table)
                columns = hydrator.neutral(1) if columns is None else columns
                table = None if columns is None else table.with_columns(columns)
        if table is None:
            return _Seen(context, None, ())
        rules = []
        for rule in stages.filters:
            keep = run.guard(rule, trace, rule.keep, context, table)
            if keep is not None and not keep[0]:
                rules.append(rule.removal)
        for stage in stages.scorers:
            if stage.name == self._record["scorer"] and table is not None:
                scored = run.guard(stage, trace, stage.score, context, table)
                table = None if scored is None else table.with_columns(scored.columns)
        return _Seen(context, table, tuple(rules))

    def _served_before(self, query: FeedQuery) -> NDArray[np.int64]:
        """Give what had been served before the feed: not its own pages, nor later ones."""
        minutes, viewer = self._policy.filters.served_minutes, query.viewer_id
        window_us = int(minutes * 60 * SECOND_US)
        since = self._served.within(viewer, query.now_us, minutes)
        later = self._served.within(viewer, query.now_us + window_us - 1, minutes)
        return np.setdiff1d(since, later)

    def _sources(self, context: QueryContext, slot: int, trace: Trace) -> tuple[SourceRank, ...]:
        return tuple(
            SourceRank(
                source.source.value,
                self._runner.guard(source, trace, source.rank_of, context, slot),
                context.policy.quotas.get(source.source, 0),
            )
            for source in self._stages.sources
            if isinstance(source, RankingSource)
        )

    def _follow_rank(self, context: QueryContext, slot: int, trace: Trace) -> int | None:
        author = int(self._runtime.cache.posts.author_slot[slot])
        if author < 0 or author in context.followees:
            return None
        followed = replace(context, followees=np.append(context.followees, author))
        for source in self._stages.sources:
            if source.source is SourceName.IN_NETWORK and isinstance(source, RankingSource):
                return self._runner.guard(source, trace, source.rank_of, followed, slot)
        return None

    def _row(self, table: Candidates, now_us: int) -> Row:
        """Gather what selection consumes, in the terms of the record."""
        cache = self._runtime.cache
        author, topic, slot = (int(table[name][0]) for name in (col.AUTHOR, col.TOPIC, col.SLOT))
        return Row(
            int(table[col.POST_ID][0]),
            int(cache.people.person_id[author]) if author >= 0 else -1,
            int(cache.posts.topics_index.ids[topic]) if topic >= 0 else -1,
            adjustments(table, self._policy),
            float(table[col.IMPRESSIONS][0]),
            float(table[col.POSITIVES][0]),
            int(self._runtime.content_codes(table[col.SLOT])[0]),
            _column(table, col.FEATURES),
            _column(table, col.PROBABILITIES),
            table[col.FAMILY],
            self._trend_rank(slot, now_us),
        )

    def _trend_rank(self, slot: int, now_us: int) -> int:
        """Give the place by velocity among a recorded pool; 0 where it was not ordered so."""
        ranks = np.asarray(self._record["trend_ranks"], np.int32)
        if not len(ranks):
            return 0
        velocity = self._runtime.cache.velocity(now_us)
        slots = self._runtime.cache.posts.slots_of(np.asarray(self._record["pool_ids"], np.int64))
        faster = (slots >= 0) & (velocity[np.maximum(slots, 0)] > velocity[slot])
        return int(ranks[faster].max(initial=-1)) + 1


def _column(table: Candidates, name: str) -> Column:
    return table[name] if name in table else np.empty((0, 0))
