"""Item-to-item: the most similar items of each item, by who acted on both."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import STRENGTH, FloatArray, ItemHistories
from models.storage import read_state, write_state


@dataclass(frozen=True)
class ItemKnn:
    """Cosine neighbours with shrinkage (Sarwar et al., WWW 2001; Bell and Koren, ICDM 2007)."""

    name: str
    neighbours: NDArray[np.int32]
    """[n_items, k], best first; -1 where an item has fewer."""
    similarities: FloatArray
    """[n_items, k]; 0 where there is no neighbour."""

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Add up similarities to what each viewer acted on, [Q, n_items]; NaN where nothing."""
        distinct = histories.distinct()
        n_items = len(self.neighbours)
        known = (distinct.rows >= 0) & (distinct.rows < n_items)
        query, _ = np.nonzero(known)
        weights = STRENGTH[distinct.types[known]]
        history = csr_array((weights, (query, distinct.rows[known])), (len(histories), n_items))
        scores: FloatArray = (history @ self._graph).toarray()
        scores[scores <= 0.0] = np.nan
        return scores

    @cached_property
    def _graph(self) -> csr_array:
        """Lay the lists out as a matrix [n_items, n_items]."""
        there = self.neighbours >= 0
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        shape = (len(self.neighbours), len(self.neighbours))
        return csr_array((self.similarities[there], self.neighbours[there], offsets), shape)

    def save(self, folder: Path) -> None:
        """Write the neighbour lists."""
        arrays = {"neighbours": self.neighbours, "similarities": self.similarities}
        write_state(folder, {"name": self.name}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        return cls(state["name"], arrays["neighbours"], arrays["similarities"])
