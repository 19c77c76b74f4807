"""Raw family scores to one scale in [0, 1], by a quantile table fitted in training."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.base import FloatArray

POINTS: Final = 1001


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """A monotone map from raw score to log-scaled tail share, both ends included.

    A score that a share s of all (viewer, post) scores reach maps to log(s) / log(smallest s):
    the median to 0.06, the best of a hundred thousand to 1. Feeds choose among the best
    few, where plain quantiles all round to 1 in float16; and a weighted sum of log tail shares
    is how independent evidence combines (Fisher 1932).
    """

    scores: FloatArray
    """[points], strictly ascending."""
    levels: FloatArray
    """[points] in [0, 1], ascending."""

    @classmethod
    def fit(cls, sample: NDArray[np.floating], points: int = POINTS) -> Self:
        """Fit on raw scores of many (viewer, post) pairs; NaN is left out."""
        finite = np.sort(sample[np.isfinite(sample)].astype(np.float32))
        if len(finite) < 2:
            return cls(np.array([0.0, 1.0], np.float32), np.array([0.0, 1.0], np.float32))
        smallest = np.log(1.0 / len(finite))
        levels = np.linspace(0.0, 1.0, points)
        # Survival exp(level * smallest) runs from 1 (every score) down to 1 / n (the best one).
        rank = len(finite) - np.exp(levels * smallest) * len(finite)
        scores = finite[np.clip(np.rint(rank).astype(np.int64), 0, len(finite) - 1)]
        scores[0], scores[-1] = finite[0], finite[-1]
        # Of points that share one score the middle one stays: ties get their middle level.
        unique, first, counts = np.unique(scores, return_index=True, return_counts=True)
        middle = levels[first + (counts - 1) // 2]
        if len(unique) < 2:
            unique = np.array([unique[0], unique[0] + 1.0], np.float32)
            middle = np.array([0.0, 1.0])
        middle[0], middle[-1] = 0.0, 1.0
        return cls(unique.astype(np.float32), middle.astype(np.float32))

    def apply(self, raw: FloatArray) -> FloatArray:
        """Map raw scores of any shape to [0, 1]; NaN stays NaN."""
        mapped = np.interp(raw, self.scores, self.levels)
        return mapped.astype(np.float32)
