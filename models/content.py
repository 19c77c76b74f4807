"""The content family: a viewer is the decayed mean of what the viewer acted on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from contracts.clock import DAY_US
from models.base import STRENGTH, FloatArray, ItemHistories, PostContent, dot_scores
from models.storage import read_state, write_state
from models.text import TextEmbedder, unit_rows, with_prior


class ContentConfig(BaseModel):
    """Choices of the content family."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: int = Field(default=64, ge=2)
    min_documents: int = Field(default=2, ge=1)
    max_terms: int = Field(default=50_000, ge=10)
    half_life_actions: float = Field(default=20.0, gt=0)
    """An action counts half when this many newer ones follow it."""
    half_life_days: float = Field(default=90.0, gt=0)
    dislike_weight: float = Field(default=0.5, ge=0)
    prior_weight: float = Field(default=1.0, ge=0)
    """Weight of the appeal coordinate: the log of how often people act on the post."""


@dataclass(frozen=True)
class ContentModel:
    """Vectors of posts from their content, and of viewers from what they acted on.

    A viewer is the decayed, strength-weighted mean of the posts in the history minus the mean of
    disliked ones, at unit length (Rocchio 1971). The last coordinate is the appeal prior: log
    popularity of the post times `prior_weight`; the viewer's is 1, a new post's the median.
    """

    name: str
    config: ContentConfig
    embedder: TextEmbedder
    vectors: FloatArray
    """[n_items, d + 1]: unit content vector, then the appeal prior; NaN rows without any term."""
    new_prior: float

    def item_vectors(self) -> FloatArray:
        """Give the content vectors, [n_items, d + 1]."""
        return self.vectors

    def encode_posts(self, content: PostContent) -> FloatArray:
        """Give vectors of new posts, [m, d + 1]; NaN rows where no term is known."""
        return with_prior(self.embedder.embed(content), np.float32(self.new_prior))

    def with_vectors(self, vectors: FloatArray) -> Self:
        """See `VectorModel`."""
        return replace(self, vectors=vectors)

    def viewer_vectors(
        self, histories: ItemHistories, table: FloatArray | None = None
    ) -> FloatArray:
        """Average what each viewer acted on, [Q, d + 1]."""
        table = self.vectors if table is None else table
        distinct = histories.distinct()
        vectors, usable = _gather(table, distinct.rows)
        weights = np.where(usable, self._decay(distinct, usable), 0.0).astype(np.float32)
        mean = (weights[:, None, :] @ vectors[:, :, :-1])[:, 0, :]
        mean /= np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1e-12))
        if histories.disliked is not None and self.config.dislike_weight > 0.0:
            away, hidden = _gather(table, histories.disliked)
            share = self.config.dislike_weight / np.maximum(hidden.sum(axis=1), 1)
            mean -= away[:, :, :-1].sum(axis=1) * share[:, None].astype(np.float32)
        unit = unit_rows(mean)
        unit[~usable.any(axis=1)] = np.nan
        return with_prior(unit, np.float32(1.0))

    def _decay(self, histories: ItemHistories, usable: NDArray[np.bool_]) -> NDArray[np.float64]:
        newer = usable[:, ::-1].cumsum(axis=1)[:, ::-1] - usable
        newest = np.where(usable, histories.times_us, 0).max(axis=1, keepdims=True)
        # Relative to the newest action: somebody who returns after a year still has a profile.
        days = np.maximum(newest - histories.times_us, 0) / DAY_US
        steps = newer / self.config.half_life_actions + days / self.config.half_life_days
        faded: NDArray[np.float64] = STRENGTH[histories.types] * np.exp2(-steps)
        return faded

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score all items, [Q, n_items]: cosine plus prior."""
        return dot_scores(self.viewer_vectors(histories), self.vectors)

    def save(self, folder: Path) -> None:
        """Write vocabulary, idf, components and item vectors."""
        state: dict[str, Any] = {
            "name": self.name,
            "config": self.config.model_dump(),
            "terms": list(self.embedder.terms),
            "new_prior": self.new_prior,
        }
        write_state(folder, state, {**self.embedder.arrays(), "vectors": self.vectors})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        config = ContentConfig.model_validate(state["config"])
        embedder = TextEmbedder.restore(state["terms"], arrays)
        return cls(state["name"], config, embedder, arrays["vectors"], state["new_prior"])


def _gather(table: FloatArray, rows: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Look rows [Q, H] up in a table [n, d]: vectors (zeros where missing), and which are there."""
    vectors = table[np.maximum(rows, 0)]
    usable = (rows >= 0) & np.isfinite(vectors[:, :, 0])
    return np.where(usable[:, :, None], vectors, np.float32(0.0)), usable
