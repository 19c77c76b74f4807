"""Choosing the best of many, with one answer for values that are equal."""

import numpy as np
from numpy.typing import NDArray


def largest(values: NDArray[np.number], k: int) -> NDArray[np.int64]:
    """Give the places of the k largest of `values` [n], largest first, ties by place: [min(k, n)].

    NumPy's `argpartition` may keep any of those that are level at the k-th, and which ones depends
    on the processor; here two machines choose the same. `values` holds no NaN.
    """
    n = len(values)
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    kept = np.flatnonzero(values >= np.partition(values, n - k)[n - k]) if k < n else np.arange(n)
    return kept[np.argsort(-values[kept], kind="stable")[:k]]
