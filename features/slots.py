"""Dense slots for int64 ids, and arrays that grow with them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.ids import UNKNOWN_ID

Ints = NDArray[np.int64]
Slots = NDArray[np.int64]
Bools = NDArray[np.bool_]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

_SPAN_SLACK: Final = 1 << 20
_SPAN_PER_ID: Final = 64


def grown(array: NDArray[Any], rows: int, fill: float = 0) -> NDArray[Any]:
    """Give an array with at least this many rows: itself, or a copy half as large again."""
    capacity = array.shape[0]
    if rows <= capacity:
        return array
    size = max(rows, capacity + capacity // 2, 16)
    # Zeros are lazily paged by the system, so that room in reserve costs no memory.
    bigger = np.zeros((size, *array.shape[1:]), array.dtype)
    bigger[:capacity] = array
    if fill != 0:
        bigger[capacity:] = fill
    return bigger


def run_starts(ordered: NDArray[Any]) -> Ints:
    """Find where each run of equal values begins in a sorted array [n]; none where it is empty."""
    if ordered.shape[0] == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def run_lengths(starts: Ints, total: int) -> Ints:
    """Give the lengths of runs that begin at `starts` and end at the next start, or at `total`."""
    return np.diff(starts, append=total)


def last_of_each(keys: Ints) -> Slots:
    """Find the last entry of each key [E], ordered by key."""
    order = np.argsort(keys, kind="stable")
    starts = run_starts(keys[order])
    last: Slots = order[starts + run_lengths(starts, len(order)) - 1]
    return last


class SlotIndex:
    """Map ids to slots 0, 1, 2 ... in order of arrival.

    Our ids come from one counter, so a table addressed by the id answers without a search; ids
    that are spread wide (hashes) fall back to binary search.
    """

    def __init__(self) -> None:
        self._ids = np.zeros(0, np.int64)
        self._count = 0
        self._base = 0
        self._table: NDArray[np.int32] | None = np.zeros(0, np.int32)  # slot + 1; 0 is none
        self._sorted_ids = np.zeros(0, np.int64)
        self._sorted_slots = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> Ints:
        """Ids in slot order, shape [n]; a view."""
        return self._ids[: self._count]

    def slots_of(self, ids: Ints) -> Slots:
        """Look slots up, any shape; -1 where the id is not known."""
        if self._table is None:
            return self._search(ids)
        if self._table.shape[0] == 0:
            return np.full(ids.shape, -1, np.int64)
        place = ids - self._base
        inside = (place >= 0) & (place < self._table.shape[0])
        found = self._table[np.where(inside, place, 0)].astype(np.int64) - 1
        return np.where(inside, found, -1)

    def slot_of(self, one: int) -> int:
        """Look one slot up; -1 where the id is not known."""
        if self._table is None:
            return int(self._search(np.array([one], np.int64))[0])
        place = one - self._base
        return int(self._table[place]) - 1 if 0 <= place < self._table.shape[0] else -1

    def add(self, ids: Ints) -> Slots:
        """Give each id its slot, making slots for new ones; negative ids (null) get -1."""
        slots = self.slots_of(ids)
        missing = (slots < 0) & (ids != UNKNOWN_ID)
        if not missing.any():
            return slots
        new, first = np.unique(ids[missing], return_index=True)
        new = new[np.argsort(first, kind="stable")]  # order of arrival
        start = self._count
        self._ids = grown(self._ids, start + new.shape[0])
        self._ids[start : start + new.shape[0]] = new
        self._count += new.shape[0]
        self._index(new, start)
        return self.slots_of(ids)

    def _index(self, new: Ints, start: int) -> None:
        ids = self.ids
        low, high = int(ids.min()), int(ids.max())
        if self._table is not None and high - low < _SPAN_SLACK + _SPAN_PER_ID * len(self):
            if start == 0 or low < self._base:
                self._base = low
                self._table = np.zeros(high - low + 1, np.int32)
                new, start = ids, 0
            self._table = grown(self._table, high - self._base + 1)
            self._table[new - self._base] = np.arange(start, len(self), dtype=np.int32) + 1
            return
        self._table = None
        self._sorted_slots = np.argsort(ids, kind="stable")
        self._sorted_ids = ids[self._sorted_slots]

    def _search(self, ids: Ints) -> Slots:
        place = np.searchsorted(self._sorted_ids, ids)
        place = np.minimum(place, self._sorted_ids.shape[0] - 1)
        return np.where(self._sorted_ids[place] == ids, self._sorted_slots[place], -1)
