"""Factor models: item factors learned from who did what, the viewer folded in at request time."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.base import (
    STRENGTH,
    FloatArray,
    ItemHistories,
    PostContent,
    dot_scores,
)
from models.storage import read_state, write_state

_CHUNK: Final = 512


@dataclass(frozen=True)
class FactorModel:
    """Item factors and a least-squares fold-in: what serves ALS.

    The viewer's vector solves (Y'Y + sum_h (c_h - 1) y_h y_h' + reg I) x = sum_h c_h y_h with
    c_h = 1 + alpha * strength (Hu, Koren, Volinsky: Collaborative filtering for implicit
    feedback datasets, ICDM 2008).
    """

    name: str
    factors: FloatArray
    """[n_items, d]; NaN rows where nobody has acted on the item."""
    gram: FloatArray
    """[d, d]: Y'Y + reg I over the items that have factors."""
    alpha: float

    @classmethod
    def from_factors(
        cls, name: str, factors: FloatArray, known: NDArray[np.bool_], reg: float, alpha: float
    ) -> Self:
        """Build from learned factors [n_items, d]; `known` says which items had training rows."""
        used = factors[known].astype(np.float64)
        gram = used.T @ used + reg * np.eye(factors.shape[1])
        masked = np.where(known[:, None], factors, np.nan).astype(np.float32)
        return cls(name, masked, gram.astype(np.float32), alpha)

    def item_vectors(self) -> FloatArray:
        """Give the factors, [n_items, d]."""
        return self.factors

    def with_vectors(self, vectors: FloatArray) -> Self:
        """See `VectorModel`."""
        return replace(self, factors=vectors)

    def viewer_vectors(
        self, histories: ItemHistories, table: FloatArray | None = None
    ) -> FloatArray:
        """Solve the normal equations of each viewer, [Q, d]."""
        table = self.factors if table is None else table
        if len(histories) <= _CHUNK:
            return self._fold_in(histories, table)
        starts = range(0, len(histories), _CHUNK)
        parts = [self._fold_in(histories.take(slice(s, s + _CHUNK)), table) for s in starts]
        return np.concatenate(parts)

    def _fold_in(self, histories: ItemHistories, table: FloatArray) -> FloatArray:
        distinct = histories.distinct()
        vectors = table[np.maximum(distinct.rows, 0)]  # [Q, H, d]
        usable = (distinct.rows >= 0) & np.isfinite(vectors[:, :, 0])
        vectors = np.where(usable[:, :, None], vectors, np.float32(0.0))
        extra = np.where(usable, self.alpha * STRENGTH[distinct.types], 0.0).astype(np.float32)
        weighted = vectors * extra[:, :, None]
        right = (vectors + weighted).sum(axis=1)[:, :, None]
        if vectors.shape[1] < vectors.shape[2]:
            solved = self._solve_short(vectors, extra[:, :, None], right)
        else:
            normal = self.gram + weighted.transpose(0, 2, 1) @ vectors  # [Q, d, d]
            solved = np.linalg.solve(normal, right)[:, :, 0].astype(np.float32, copy=False)
        solved[~usable.any(axis=1)] = np.nan
        return solved

    def _solve_short(self, vectors: FloatArray, extra: FloatArray, right: FloatArray) -> FloatArray:
        """Solve where a history is shorter than a vector, over [Q, H, H] (Woodbury's identity).

        `vectors` [Q, H, d] and their weights `extra` [Q, H, 1], `right` [Q, d, 1]: gives [Q, d].
        """
        flat = vectors.reshape(-1, vectors.shape[2])
        near = (flat @ self._inverse).reshape(vectors.shape)
        inner = extra * (near @ vectors.transpose(0, 2, 1))
        inner += np.eye(vectors.shape[1], dtype=np.float32)
        shares = np.linalg.solve(inner, extra * (near @ right))  # [Q, H, 1]
        solved: FloatArray = self._inverse @ right - near.transpose(0, 2, 1) @ shares
        return solved[:, :, 0]

    @cached_property
    def _inverse(self) -> FloatArray:
        """Invert the Gram matrix, [d, d]."""
        found: FloatArray = np.linalg.inv(self.gram.astype(np.float64)).astype(np.float32)
        return found

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score all items, [Q, n_items]."""
        return dot_scores(self.viewer_vectors(histories), self.factors)

    def encode_posts(self, content: PostContent) -> FloatArray:
        """Give NaN rows: nobody has acted on a new post, so it has no factors."""
        return np.full((len(content), self.factors.shape[1]), np.nan, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write factors, Gram matrix and the confidence slope."""
        state = {"name": self.name, "alpha": self.alpha}
        write_state(folder, state, {"factors": self.factors, "gram": self.gram})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        return cls(state["name"], arrays["factors"], arrays["gram"], state["alpha"])
