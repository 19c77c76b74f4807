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
    """Give an array with at least so many rows: itself, or a copy with half as many in reserve."""
    capacity = array.shape[0]
    if rows <= capacity:
        return array
    size = max(rows + rows // 2, 16)
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
    that are spread wide (hashes) fall back to binary search. One thread adds, any number looks up:
    each look-up reads one table, which is replaced whole or extended in place.
    """

    def __init__(self) -> None:
        self._ids = np.zeros(0, np.int64)
        self._count = 0
        self._table: tuple[int, NDArray[np.int32]] | None = (0, np.zeros(0, np.int32))
        """The least id, and slot + 1 of each id from there on; 0 is none."""
        self._sorted = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        """Ids and their slots, where there is no table."""

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> Ints:
        """Ids in slot order, shape [n]; a view."""
        return self._ids[: self._count]

    def slots_of(self, ids: Ints) -> Slots:
        """Look slots up, any shape; -1 where the id is not known."""
        held = self._table
        if held is None:
            return self._search(ids)
        base, table = held
        if table.shape[0] == 0:
            return np.full(ids.shape, -1, np.int64)
        place = ids - base
        inside = (place >= 0) & (place < table.shape[0])
        found = table[np.where(inside, place, 0)].astype(np.int64) - 1
        return np.where(inside, found, -1)

    def slot_of(self, one: int) -> int:
        """Look one slot up; -1 where the id is not known."""
        held = self._table
        if held is None:
            return int(self._search(np.array([one], np.int64))[0])
        base, table = held
        place = one - base
        return int(table[place]) - 1 if 0 <= place < table.shape[0] else -1

    def add(self, ids: Ints) -> Slots:
        """Give each id its slot, making slots for new ones; `UNKNOWN_ID` (null) gets -1."""
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
            base, table = self._table
            if start == 0 or low < base:
                base, table, new, start = low, np.zeros(0, np.int32), ids, 0
            table = grown(table, high - base + 1)
            table[new - base] = np.arange(start, len(self), dtype=np.int32) + 1
            self._table = (base, table)
            return
        order = np.argsort(ids, kind="stable")
        self._sorted = (ids[order], order)
        self._table = None

    def _search(self, ids: Ints) -> Slots:
        sorted_ids, sorted_slots = self._sorted
        place = np.minimum(np.searchsorted(sorted_ids, ids), sorted_ids.shape[0] - 1)
        return np.where(sorted_ids[place] == ids, sorted_slots[place], -1)
