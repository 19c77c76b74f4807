"""The sources: each gives post slots, best first. All are NumPy in memory, well under 1 ms.

Each can also say at which rank, from 1, it would find one post, however far down; a few
milliseconds. Ranks are among the posts that existed at the query's time.
"""

from typing import ClassVar, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, SourceName
from contracts.order import largest
from models.base import Family
from serving.components import Fault, OnError, Source
from serving.context import QueryContext
from serving.families import NeighbourFamily
from serving.runtime import Runtime

Slots = NDArray[np.int64]

_NONE: Final = np.empty(0, dtype=np.int64)
_SKIP: Final = Fault(OnError.SKIP, DegradeReason.SOURCE_FAILED)
_DEEP_OUT: Final = Fault(OnError.DEGRADE, DegradeReason.DEEP_SOURCE_FAILED, DegradeLevel.NO_DEEP)
_COLD_HISTORY: Final = 5
_SECOND_HOP: Final = 200
_PER_AUTHOR: Final = 20
_ALL: Final = np.iinfo(np.int64).max


@runtime_checkable
class RankingSource(Source, Protocol):
    """A source that can rank any post."""

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """Give the rank of a post slot, from 1; None where no quota would reach it."""
        ...


class _CacheSource:
    """What sources over the runtime share: they are skipped when they fail."""

    def __init__(self, runtime: Runtime, fault: Fault = _SKIP) -> None:
        self._runtime = runtime
        self.fault = fault

    def _place(self, context: QueryContext, slots: Slots, slot: int) -> int | None:
        """Give the place of a post in an ordered list, later posts left out; None: not in it."""
        then = slots[self._runtime.cache.posts.created_us[slots] <= context.query.now_us]
        places = np.flatnonzero(then == slot)
        return int(places[0]) + 1 if len(places) else None


class InNetworkSource(_CacheSource):
    """Recent posts of followed authors, newest first."""

    name: ClassVar[str] = "source.in_network"
    source: ClassVar[SourceName] = SourceName.IN_NETWORK

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        return newest_of(self._runtime, context.followees, limit)

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """See `RankingSource`; None too where its author has newer posts enough."""
        return self._place(context, newest_of(self._runtime, context.followees, _ALL), slot)


class FamilySource(_CacheSource):
    """The best posts of one family for the viewer."""

    def __init__(self, runtime: Runtime, family: Family, source: SourceName | None = None) -> None:
        super().__init__(runtime, _DEEP_OUT if family is Family.DEEP else _SKIP)
        self.source = SourceName(family.value) if source is None else source
        self.name = f"source.{self.source.value}"
        self._family = family

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        vector = context.vectors.get(self._family)
        if vector is None:
            return _NONE
        rows = self._runtime.families[self._family].search(vector, limit)
        return self._runtime.slots_of_rows(rows)

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """See `RankingSource`: exact, by scoring all posts, where the index may search in part."""
        vector = context.vectors.get(self._family)
        row = int(self._runtime.rows_of(np.array([slot]))[0])
        if vector is None or row < 0:
            return None
        scores = self._runtime.families[self._family].all_scores(vector)
        if row >= len(scores) or not np.isfinite(scores[row]):
            return None
        rows = np.flatnonzero(scores >= scores[row])
        rows = rows[(scores[rows] > scores[row]) | (rows < row)]
        slots = self._runtime.slot_of_row[rows]
        created = self._runtime.cache.posts.created_us[slots]
        return 1 + int(((slots >= 0) & (created <= context.query.now_us)).sum())


class ItemToItemSource(FamilySource):
    """Neighbours of what the viewer acted on; notes which action speaks most for each."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, Family.NEIGHBOURS, SourceName.ITEM_TO_ITEM)

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`; also notes which action led to each post."""
        viewer = context.vectors.get(Family.NEIGHBOURS)
        family = self._runtime.families.get(Family.NEIGHBOURS)
        if viewer is None or not isinstance(family, NeighbourFamily):
            return _NONE
        found = family.search(viewer, limit)
        slots = self._runtime.slot_of_row[found]
        recent = context.recent_slots
        places = family.strongest(self._runtime.rows_of(recent)[::-1], found)
        seeds = recent[::-1][places]
        context.seeds = dict(zip(slots.tolist(), seeds.tolist(), strict=True))
        return slots[slots >= 0]


class TrendingSource(_CacheSource):
    """What moves fastest now."""

    name: ClassVar[str] = "source.trending"
    source: ClassVar[SourceName] = SourceName.TRENDING

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        return self._runtime.trending.top(context.query.now_us, limit)

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """See `RankingSource`."""
        posts, now_us = self._runtime.cache.posts, context.query.now_us
        velocity = self._runtime.cache.velocity(now_us)
        size = len(velocity)
        velocity[posts.deleted[:size] | (posts.created_us[:size] > now_us)] = -np.inf
        if not np.isfinite(velocity[slot]):
            return None
        ties = velocity[:slot] == velocity[slot]
        return 1 + int((velocity > velocity[slot]).sum() + ties.sum())


class FreshSource(_CacheSource):
    """The newest posts: the exploration corpus, open to every author."""

    name: ClassVar[str] = "source.fresh"
    source: ClassVar[SourceName] = SourceName.FRESH

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        del context
        return self._runtime.cache.newest(limit)

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """See `RankingSource`."""
        posts = self._runtime.cache.posts
        created, deleted = posts.created_us, posts.deleted
        if deleted[slot] or created[slot] > context.query.now_us:
            return None
        newer = created > created[slot]
        newer[slot + 1 :] |= created[slot + 1 :] == created[slot]  # ties by the greater slot
        return 1 + int((newer & ~deleted & (created <= context.query.now_us)).sum())


class FollowsOfFollowsSource(_CacheSource):
    """Recent posts two hops away, for viewers with little history."""

    name: ClassVar[str] = "source.follows_of_follows"
    source: ClassVar[SourceName] = SourceName.FOLLOWS_OF_FOLLOWS

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        others = self._others(context)
        return newest_of(self._runtime, others, limit)

    def rank_of(self, context: QueryContext, slot: int) -> int | None:
        """See `RankingSource`; None where the viewer has history enough."""
        return self._place(context, newest_of(self._runtime, self._others(context), _ALL), slot)

    def _others(self, context: QueryContext) -> Slots:
        """Give the people whom most of the followees follow; none for a viewer with history."""
        if len(context.recent_slots) >= _COLD_HISTORY or not len(context.followees):
            return _NONE
        graph = self._runtime.cache.graph
        hops = [graph.followees(int(person)) for person in context.followees[:_SECOND_HOP]]
        people, counts = np.unique(np.concatenate(hops), return_counts=True)
        people = people[np.argsort(-counts, kind="stable")][:_SECOND_HOP]
        return np.setdiff1d(people, context.followees).astype(np.int64)


def newest_of(runtime: Runtime, authors: Slots, limit: int) -> Slots:
    """Give the newest posts of some authors, newest first."""
    if not len(authors):
        return _NONE
    cache = runtime.cache
    slots = np.sort(cache.recent_by_authors(authors.astype(np.int32), _PER_AUTHOR))
    return slots[largest(cache.posts.created_us[slots], limit)]
