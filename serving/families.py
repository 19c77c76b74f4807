"""How a retrieval family is asked in serving: by a viewer's vector, or by lists of neighbours."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.order import largest
from models.base import Family, FloatArray, IntArray, ItemHistories, PostContent, VectorModel
from models.bundle import Bundle
from models.neighbours import ItemKnn
from serving.index import VectorIndex, VectorTable


class ServedFamily(Protocol):
    """One family, kept up with new posts. What `fold_in` gives is handed back to the others."""

    def fold_in(self, histories: ItemHistories) -> FloatArray | None:
        """Say of one viewer what the others need, [d]; None where the history says nothing."""
        ...

    def add(self, rows: IntArray, content: PostContent) -> None:
        """Make new posts known under their item rows [m]."""
        ...

    def search(self, viewer: FloatArray, limit: int) -> IntArray:
        """Find up to `limit` item rows for a viewer, best first."""
        ...

    def scores(self, rows: IntArray, viewer: FloatArray) -> FloatArray:
        """Score item rows [n]; NaN for row -1 and where the family cannot say."""
        ...

    def all_scores(self, viewer: FloatArray) -> FloatArray:
        """Score every item row that the family knows, [size]."""
        ...


class VectorFamily:
    """A model whose score is a dot product, its vectors in one table, and the bundle's index."""

    def __init__(self, model: VectorModel, index: VectorIndex) -> None:
        self.table = VectorTable(model.item_vectors())
        self.model: VectorModel = model.with_vectors(self.table.rows)  # held once
        self._index = index

    def fold_in(self, histories: ItemHistories) -> FloatArray | None:
        """See `ServedFamily`: the viewer's vector."""
        vector: FloatArray = self.model.viewer_vectors(histories, self.table.rows)[0]
        return vector if np.isfinite(vector).all() else None

    def add(self, rows: IntArray, content: PostContent) -> None:
        """See `ServedFamily`: by the vectors of their content."""
        vectors = self.model.encode_posts(content)
        self.table.append(vectors)
        self._index.add(rows, vectors)

    def search(self, viewer: FloatArray, limit: int) -> IntArray:
        """See `ServedFamily`."""
        return self._index.search(viewer, limit)

    def scores(self, rows: IntArray, viewer: FloatArray) -> FloatArray:
        """See `ServedFamily`."""
        return self.table.scores(rows, viewer)

    def all_scores(self, viewer: FloatArray) -> FloatArray:
        """See `ServedFamily`."""
        found: FloatArray = self.table.rows @ viewer
        return found


class NeighbourFamily:
    """Lists of similar items, added up over a history; posts that came since are in none."""

    def __init__(self, model: ItemKnn) -> None:
        self.model = model
        model.score_all(ItemHistories.empty(1))  # lays the lists out now, not in the first request

    def fold_in(self, histories: ItemHistories) -> FloatArray | None:
        """See `ServedFamily`: the sums themselves, [n_items]."""
        sums: FloatArray = self.model.score_all(histories)[0]
        return sums if np.isfinite(sums).any() else None

    def add(self, rows: IntArray, content: PostContent) -> None:
        """See `ServedFamily`."""

    def search(self, viewer: FloatArray, limit: int) -> IntArray:
        """See `ServedFamily`."""
        rows = np.flatnonzero(np.isfinite(viewer))
        return rows[largest(viewer[rows], limit)]

    def scores(self, rows: IntArray, viewer: FloatArray) -> FloatArray:
        """See `ServedFamily`."""
        inside = (rows >= 0) & (rows < len(viewer))
        return np.where(inside, viewer[np.where(inside, rows, 0)], np.float32(np.nan))

    def all_scores(self, viewer: FloatArray) -> FloatArray:
        """See `ServedFamily`."""
        return viewer

    def strongest(self, history: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the place in a history [H] of item rows that speaks most for each of `found` [n]."""
        neighbours, similarities = self.model.neighbours, self.model.similarities
        place = np.full(len(neighbours), -1, dtype=np.int64)
        place[found] = np.arange(len(found))
        known = np.flatnonzero((history >= 0) & (history < len(neighbours)))
        near = neighbours[history[known]]
        target = np.where(near >= 0, place[near], -1)
        speaks = target >= 0
        order = np.argsort(similarities[history[known]][speaks], kind="stable")
        best = np.full(len(found), -1, dtype=np.int64)
        # The strongest is written last and stays; of equals, the newest action.
        best[target[speaks][order]] = np.broadcast_to(known[:, None], near.shape)[speaks][order]
        return best


def served_families(bundle: Bundle) -> dict[Family, VectorFamily | NeighbourFamily]:
    """Make the families of a bundle ready to be asked."""
    served: dict[Family, VectorFamily | NeighbourFamily] = {}
    for family, model in bundle.families.items():
        if isinstance(model, ItemKnn):
            served[family] = NeighbourFamily(model)
        elif isinstance(model, VectorModel):
            served[family] = VectorFamily(model, VectorIndex(bundle.indexes[family]))
        else:
            raise TypeError(f"{family.value} is neither vectors nor neighbours")
    return served
