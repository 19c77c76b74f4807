"""Item-to-item: the most similar items of each item, by who acted on both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import STRENGTH, FloatArray, ItemHistories
from models.storage import read_state, write_state


@dataclass(frozen=True, slots=True)
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
        n_items, k = self.neighbours.shape
        query, _ = np.nonzero(distinct.rows >= 0)
        rows = distinct.rows[distinct.rows >= 0]
        weights = STRENGTH[distinct.types[distinct.rows >= 0]]
        history = csr_array((weights, (query, rows)), shape=(len(histories), n_items))
        there = self.neighbours >= 0
        source = np.repeat(np.arange(n_items), k).reshape(n_items, k)[there]
        graph = csr_array(
            (self.similarities[there], (source, self.neighbours[there])), shape=(n_items, n_items)
        )
        scores: FloatArray = (history @ graph).toarray().astype(np.float32)
        return np.where(scores > 0.0, scores, np.float32(np.nan))

    def save(self, folder: Path) -> None:
        """Write the neighbour lists."""
        arrays = {"neighbours": self.neighbours, "similarities": self.similarities}
        write_state(folder, {"name": self.name}, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        return cls(state["name"], arrays["neighbours"], arrays["similarities"])
