"""What ranking reads: the bundle laid over the feature cache, kept up with new posts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import SECOND_US
from features.caches import FeatureCache
from features.slots import grown
from models.base import Family, ItemHistories, PostContent
from models.bundle import Bundle
from serving.context import QueryContext
from serving.families import ServedFamily, VectorFamily, served_families
from serving.index import VectorTable

Slots = NDArray[np.int64]

_TRENDING_BUCKET_US: Final = 30 * SECOND_US
_TRENDING_KEPT: Final = 2000
_PLANES_SEED: Final = 64


class Runtime:
    """A bundle, the feature cache, and the map between item rows and post slots.

    An item row is a row of the bundle's vectors; posts that came since get rows behind them. A
    post slot is a row of the cache's post table. One thread writes (under the service's lock).
    """

    def __init__(self, bundle: Bundle | None, cache: FeatureCache) -> None:
        self.bundle: Bundle | None = None
        """With the served families' models, so that vectors are held once."""
        self.cache = cache
        self.families: Mapping[Family, ServedFamily] = {}
        self._row_of_slot: Slots = np.full(0, -1, dtype=np.int64)
        self.slot_of_row: Slots = np.full(0, -1, dtype=np.int64)
        self._rows = 0
        self.trending = Trending(cache)
        self._planes: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if bundle is None:
            return
        self.families = served_families(bundle)
        shared = {family: served.model for family, served in self.families.items()}
        self.bundle = bundle = replace(bundle, families=shared)
        self._rows = len(bundle.post_ids)
        self._planes = _hyperplanes(self._content().rows[:, :-1])
        slots = cache.posts.slots_of(bundle.post_ids)
        self.slot_of_row = slots.copy()
        self._row_of_slot = np.full(len(cache.posts), -1, dtype=np.int64)
        known = slots >= 0
        self._row_of_slot[slots[known]] = np.flatnonzero(known)

    def unknown_posts(self) -> NDArray[np.int64]:
        """Give the ids of live posts that have no item row yet."""
        posts = self.cache.posts
        rows = self.rows_of(np.arange(len(posts), dtype=np.int64))
        return posts.post_id[(rows < 0) & ~posts.deleted]

    def add_posts(self, posts: pa.Table) -> None:
        """Encode posts (POSTS_SCHEMA rows that the cache holds) and make them retrievable."""
        if self.bundle is None or posts.num_rows == 0:
            return
        slots = self.cache.posts.slots_of(posts.column("post_id").to_numpy())
        rows = self._new_rows(slots)
        content = content_of(posts)
        for family in self.families.values():
            family.add(rows, content)

    def rows_of(self, slots: Slots) -> NDArray[np.int64]:
        """Map post slots to item rows, any shape; -1 stays -1, as does a post without a row."""
        if not len(self._row_of_slot):
            return np.full(slots.shape, -1, dtype=np.int64)
        inside = (slots >= 0) & (slots < len(self._row_of_slot))
        return np.where(inside, self._row_of_slot[np.where(inside, slots, 0)], -1)

    def content_codes(self, slots: Slots) -> NDArray[np.uint64]:
        """Give 64 sign bits of each post's content vector: slots [n] -> [n]; 0 where it has none.

        Random hyperplanes through the mean post (Charikar, STOC 2002): differing bits grow with
        the angle. The last coordinate is popularity and does not count.
        """
        codes = np.zeros(len(slots), dtype=np.uint64)
        if self._planes is None:
            return codes
        rows = self.rows_of(slots)
        vectors = self._content().rows[np.maximum(rows, 0), :-1]
        known = (rows >= 0) & np.isfinite(vectors[:, 0]) & vectors.any(axis=1)
        mean, planes = self._planes
        # Row by row: a sign may not hang on its batch mates.
        bits = np.einsum("nd,db->nb", vectors[known] - mean, planes) > 0.0
        codes[known] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
        return codes

    def slots_of_rows(self, rows: NDArray[np.int64]) -> Slots:
        """Map item rows to post slots, rows whose post the cache does not hold left out."""
        slots = self.slot_of_row[rows]
        return slots[slots >= 0]

    def item_histories(self, context: QueryContext) -> ItemHistories:
        """Write the viewer's history in item rows, each item once, as the families read it."""
        histories = context.histories
        return ItemHistories(
            rows=self.rows_of(histories.post_slots),
            types=histories.types,
            times_us=histories.times_us,
            now_us=np.array([context.query.now_us]),
            disliked=self.rows_of(context.disliked)[None, :],
        ).distinct()

    def _content(self) -> VectorTable:
        content = self.families[Family.CONTENT]
        if not isinstance(content, VectorFamily):
            raise TypeError("the content family has no vectors")
        return content.table

    def _new_rows(self, slots: Slots) -> NDArray[np.int64]:
        rows = np.arange(self._rows, self._rows + len(slots), dtype=np.int64)
        self._rows += len(slots)
        top = int(slots.max()) + 1
        before = len(self._row_of_slot)
        if top > before:
            self._row_of_slot = grown(self._row_of_slot, top, fill=-1)
        self.slot_of_row = grown(self.slot_of_row, self._rows, fill=-1)
        self._row_of_slot[slots] = rows
        self.slot_of_row[rows] = slots
        return rows


def _hyperplanes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.Generator(np.random.PCG64(_PLANES_SEED))
    planes = generator.standard_normal((vectors.shape[1], 64)).astype(np.float32)
    return np.nan_to_num(np.nanmean(vectors, axis=0)).astype(np.float32), planes


class Trending:
    """Posts by decayed velocity, taken anew at most every 30 seconds of query time."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._bucket = -1
        self._order: Slots = np.empty(0, dtype=np.int64)

    def top(self, now_us: int, limit: int) -> Slots:
        """Give the slots of up to `limit` live posts, fastest first."""
        bucket = now_us // _TRENDING_BUCKET_US
        if bucket != self._bucket:
            self._order = self._cache.trending(now_us, _TRENDING_KEPT)
            self._bucket = bucket
        return self._order[:limit]


def content_of(posts: pa.Table) -> PostContent:
    """Read the content of POSTS_SCHEMA rows."""
    authors = posts.column("author_id").fill_null(-1).to_numpy()
    return PostContent(
        texts=posts.column("text").to_pylist(),
        topics=posts.column("topics").to_pylist(),
        author_ids=authors.astype(np.int64),
        created_us=posts.column("created").cast(pa.int64()).to_numpy(),
    )
