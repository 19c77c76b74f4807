"""Vector tables and their FAISS indexes, with posts that arrived after the bundle was made."""

from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from models.bundle import PROBES

Vectors = NDArray[np.float32]

_GROWTH: Final = 1.125
_SPARE: Final = 1024


class VectorTable:
    """Vectors by item row; rows past the bundle's own are posts that came since."""

    def __init__(self, vectors: Vectors) -> None:
        self.size = len(vectors)
        self._rows = np.empty((self._room(self.size), vectors.shape[1]), dtype=np.float32)
        self._rows[: self.size] = vectors

    @property
    def rows(self) -> Vectors:
        """All vectors, [size, d]; NaN rows where a post has none."""
        return self._rows[: self.size]

    def append(self, vectors: Vectors) -> None:
        """Add vectors [m, d] in the rows that follow."""
        need = self.size + len(vectors)
        if need > len(self._rows):
            grown = np.empty((self._room(need), vectors.shape[1]), dtype=np.float32)
            grown[: self.size] = self._rows[: self.size]
            self._rows = grown
        self._rows[self.size : need] = vectors
        self.size = need

    @staticmethod
    def _room(size: int) -> int:
        return int(size * _GROWTH) + _SPARE

    def scores(self, rows: NDArray[np.int64], viewer: Vectors) -> NDArray[np.float32]:
        """Multiply vectors of `rows` [n] with a viewer's [d]; NaN for row -1 and missing ones.

        `einsum` adds each row by itself, so that a score does not depend on its batch mates.
        """
        known = np.maximum(rows, 0)
        result: NDArray[np.float32] = np.einsum("nd,d->n", self._rows[known], viewer)
        result[rows < 0] = np.nan
        return result


class VectorIndex:
    """Nearest item rows by inner product: the bundle's FAISS index plus what came since."""

    def __init__(self, index: Any, probes: int = PROBES) -> None:  # noqa: ANN401 - faiss has no types
        faiss.omp_set_num_threads(1)  # a search is short; a second thread only adds waiting
        self._index = index
        inverted_file = faiss.try_extract_index_ivf(index)
        if inverted_file is not None:
            inverted_file.nprobe = probes

    def add(self, rows: NDArray[np.int64], vectors: Vectors) -> None:
        """Add vectors [m, d] under their item rows; NaN vectors are left out."""
        usable = np.isfinite(vectors[:, 0])
        if usable.any():
            self._index.add_with_ids(
                np.ascontiguousarray(vectors[usable]), np.ascontiguousarray(rows[usable])
            )

    def search(self, viewer: Vectors, limit: int) -> NDArray[np.int64]:
        """Find up to `limit` item rows for a viewer's vector [d], best first."""
        _, rows = self._index.search(viewer.reshape(1, -1), limit)
        found: NDArray[np.int64] = rows[0]
        return found[found >= 0]
