"""Intervals by paired bootstrap over people (Efron and Tibshirani 1993)."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over people and its 95 % percentile interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 4) -> str:
        """Write it as `0.1234 [0.1200, 0.1268]`."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def bootstrap_means(values: Values, seed: int, resamples: int = RESAMPLES) -> Values:
    """Resample people with replacement: means of the columns of [people, m], [resamples, m].

    The same seed draws the same people, so that two calls on equally many people are paired.
    NaN is left out of a mean.
    """
    people = len(values)
    generator = np.random.Generator(np.random.PCG64(seed))
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    means = np.empty((resamples, values.shape[1]))
    for row in range(resamples):
        counts = np.bincount(generator.integers(0, people, people), minlength=people)
        weight = counts @ there
        means[row] = (counts @ filled) / np.where(weight > 0, weight, np.nan)
    return means


def interval(mean: float, resampled: Values) -> Interval:
    """Take the 95 % percentile interval of resampled means [resamples]."""
    tail = (1.0 - CONFIDENCE) / 2.0
    usable = resampled[np.isfinite(resampled)]
    if not len(usable):
        return Interval(mean, float("nan"), float("nan"))
    low, high = np.quantile(usable, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))
