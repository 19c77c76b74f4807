"""The retrieval blend: a linear weight a family over normalised scores; it gives candidates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.base import Family, FloatArray, ItemHistories, Scorer
from models.normalise import QuantileTable


@dataclass(frozen=True, slots=True)
class RetrievalBlend:
    """Weights over the families; a family that cannot score a post adds nothing."""

    weights: Mapping[Family, float]
    normalisers: Mapping[Family, QuantileTable]

    def combine(self, scores: Mapping[Family, FloatArray]) -> FloatArray:
        """Blend raw scores of one shape; NaN where no family could score."""
        total = np.zeros_like(next(iter(scores.values())))
        known = np.zeros(total.shape, dtype=bool)
        for family, raw in scores.items():
            there = np.isfinite(raw)
            known |= there
            weight = np.float32(self.weights.get(family, 0.0))
            if weight:
                total[there] += weight * self.normalisers[family].apply(raw[there])
        return np.where(known, total, np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class BlendedFamilies:
    """A blend bound to its families, so that it scores all items as a model does."""

    blend: RetrievalBlend
    families: Mapping[Family, Scorer]

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score all items by the blend, [Q, n_items]."""
        return self.blend.combine({f: m.score_all(histories) for f, m in self.families.items()})
