"""The sources: each gives post slots, best first. All are NumPy in memory, well under 1 ms."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, SourceName
from models.base import Family
from serving.components import Fault, OnError
from serving.context import QueryContext
from serving.runtime import Runtime

Slots = NDArray[np.int64]

_NONE: Final = np.empty(0, dtype=np.int64)
_SKIP: Final = Fault(OnError.SKIP, DegradeReason.SOURCE_FAILED)
_DEEP_OUT: Final = Fault(OnError.DEGRADE, DegradeReason.DEEP_SOURCE_FAILED, DegradeLevel.NO_DEEP)
_SEEDS: Final = 10
_SEED_DECAY: Final = 0.9
_COLD_HISTORY: Final = 5
_SECOND_HOP: Final = 200
_PER_AUTHOR: Final = 20


class _CacheSource:
    """What sources over the runtime share: they are skipped when they fail."""

    def __init__(self, runtime: Runtime, fault: Fault = _SKIP) -> None:
        self._runtime = runtime
        self.fault = fault


class InNetworkSource(_CacheSource):
    """Recent posts of followed authors, newest first."""

    name: ClassVar[str] = "source.in_network"
    source: ClassVar[SourceName] = SourceName.IN_NETWORK

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        return newest_of(self._runtime, context.followees, limit)


class FamilySource(_CacheSource):
    """Nearest posts to the viewer's vector of one family."""

    def __init__(self, runtime: Runtime, family: Family) -> None:
        super().__init__(runtime, _DEEP_OUT if family is Family.DEEP else _SKIP)
        self.name = f"source.{family.value}"
        self.source = SourceName(family.value)
        self._family = family

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        vector = context.vectors.get(self._family)
        if vector is None:
            return _NONE
        rows = self._runtime.indexes[self._family].search(vector, limit)
        return self._runtime.slots_of_rows(rows)


class ItemToItemSource(_CacheSource):
    """Neighbours of the posts that the viewer acted on last."""

    name: ClassVar[str] = "source.item_to_item"
    source: ClassVar[SourceName] = SourceName.ITEM_TO_ITEM

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`; also notes which action led to each post."""
        bundle = self._runtime.bundle
        if bundle is None:
            return _NONE
        neighbours, similarities = bundle.neighbours
        recent = context.recent_slots[:_SEEDS]
        rows = self._runtime.rows_of(recent)
        usable = (rows >= 0) & (rows < len(neighbours))
        recent, rows = recent[usable], rows[usable]
        if not len(rows):
            return _NONE
        weight = similarities[rows] * (_SEED_DECAY ** np.arange(len(rows)))[:, None]
        found = neighbours[rows].ravel().astype(np.int64)
        there = found >= 0
        found, flat = found[there], weight.ravel()[there]
        seeds = np.repeat(recent, neighbours.shape[1])[there]
        unique, inverse = np.unique(found, return_inverse=True)
        total = np.bincount(inverse, weights=flat)
        best = np.argsort(-total, kind="stable")[:limit]
        strongest = np.empty(len(unique), dtype=np.int64)
        order = np.argsort(flat, kind="stable")  # the strongest is written last and stays
        strongest[inverse[order]] = seeds[order]
        slots = self._runtime.slot_of_row[unique[best]]
        context.seeds = dict(zip(slots.tolist(), strongest[best].tolist(), strict=True))
        return slots[slots >= 0]


class TrendingSource(_CacheSource):
    """What moves fastest now."""

    name: ClassVar[str] = "source.trending"
    source: ClassVar[SourceName] = SourceName.TRENDING

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        return self._runtime.trending.top(context.query.now_us, limit)


class FreshSource(_CacheSource):
    """The newest posts: the exploration corpus, open to every author."""

    name: ClassVar[str] = "source.fresh"
    source: ClassVar[SourceName] = SourceName.FRESH

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        del context
        return self._runtime.cache.newest(limit)


class FollowsOfFollowsSource(_CacheSource):
    """Recent posts two hops away, for viewers with little history."""

    name: ClassVar[str] = "source.follows_of_follows"
    source: ClassVar[SourceName] = SourceName.FOLLOWS_OF_FOLLOWS

    def find(self, context: QueryContext, limit: int) -> Slots:
        """See `Source`."""
        if len(context.recent_slots) >= _COLD_HISTORY or not len(context.followees):
            return _NONE
        graph = self._runtime.cache.graph
        hops = [graph.followees(int(person)) for person in context.followees[:_SECOND_HOP]]
        people, counts = np.unique(np.concatenate(hops), return_counts=True)
        people = people[np.argsort(-counts, kind="stable")][:_SECOND_HOP]
        others = np.setdiff1d(people, context.followees)
        return newest_of(self._runtime, others.astype(np.int64), limit)


def newest_of(runtime: Runtime, authors: Slots, limit: int) -> Slots:
    """Give the newest posts of some authors, newest first."""
    if not len(authors):
        return _NONE
    cache = runtime.cache
    slots = cache.recent_by_authors(authors.astype(np.int32), _PER_AUTHOR)
    created = cache.posts.created_us[slots]
    if len(slots) > limit:
        newest = np.argpartition(-created, limit - 1)[:limit]
        slots, created = slots[newest], created[newest]
    return slots[np.lexsort((slots, -created))]
