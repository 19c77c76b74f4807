"""Event ids for events that have none: the same file gives the same ids again."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_MASK_63: Final = np.uint64((1 << 63) - 1)


class Occurrences:
    """Counts equal keys over a whole file; 8 bytes a key, in sorted runs merged geometrically."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def number(self, keys: Keys) -> NDArray[np.int64]:
        """Give how often each key [n] came before, in earlier batches and earlier in this one."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        places = np.arange(len(keys))
        first = np.r_[True, ordered[1:] != ordered[:-1]][: len(keys)]
        before = places - np.maximum.accumulate(np.where(first, places, 0))
        for run in self._runs:
            before += np.searchsorted(run, ordered, side="right")
            before -= np.searchsorted(run, ordered, side="left")
        self._add(ordered)
        numbers = np.empty(len(keys), dtype=np.int64)
        numbers[order] = before
        return numbers

    def _add(self, run: Keys) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate((self._runs.pop(), run))
            run.sort(kind="stable")
        self._runs.append(run)


def mixed_keys(columns: Sequence[NDArray[np.int64]]) -> Keys:
    """Mix int64 columns, each [n], into one 64-bit key a row.

    Rounds of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), one a column. Among 10 million
    different rows two share a key with probability 3e-6.
    """
    keys = np.full(len(columns[0]), 0x9E3779B97F4A7C15, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            keys = (keys ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            keys = keys ^ (keys >> np.uint64(31))
    return keys


def made_event_ids(
    occurrences: Occurrences, columns: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Give 63-bit event ids [n] of rows: their columns and the row's occurrence in the file."""
    keys = mixed_keys(columns)
    numbered = mixed_keys([keys.astype(np.int64), occurrences.number(keys)])
    return (numbered & _MASK_63).astype(np.int64)
