"""The columnar candidate table: a row a post, a NumPy column a fact."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import PipelineError
from serving.columns import SLOT, SOURCES

Column = NDArray[Any]


class Candidates:
    """Rows of candidate posts; immutable by convention: every stage returns a new table."""

    __slots__ = ("_columns", "size")

    def __init__(self, columns: Mapping[str, Column]) -> None:
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            raise PipelineError(f"candidate columns differ in length: {sizes}")
        self._columns = dict(columns)
        self.size = next(iter(sizes.values()), 0)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def with_columns(self, added: Mapping[str, Column]) -> "Candidates":
        """Add columns; PipelineError where one has another length or is there already."""
        twice = self._columns.keys() & added.keys()
        if twice:
            raise PipelineError(f"columns written twice: {sorted(twice)}")
        return Candidates({**self._columns, **added})

    def take(self, rows: Column) -> "Candidates":
        """Keep rows by boolean mask or by position."""
        return Candidates({name: column[rows] for name, column in self._columns.items()})


def merge(found: Iterable[tuple[int, Column]], capacity: int, limit: int) -> tuple[Candidates, int]:
    """Merge what sources found into one table, a row a post, and count the duplicates.

    `found` holds (source bit, slots [k] best first); `capacity` is the number of post slots.
    A post that several sources found carries all their bits. Above `limit` rows the best ranks
    of every source stay (round robin), so that no source is crowded out. Rows are in slot order.
    """
    parts = [(bit, slots) for bit, slots in found if len(slots)]
    if not parts:
        empty = np.empty(0, dtype=np.int64)
        return Candidates({SLOT: empty, SOURCES: np.empty(0, dtype=np.int32)}), 0
    slots = np.concatenate([s for _, s in parts])
    bits = np.repeat(np.array([b for b, _ in parts], dtype=np.int32), [len(s) for _, s in parts])
    mask = np.zeros(capacity, dtype=np.int32)
    np.bitwise_or.at(mask, slots, bits)
    unique = np.flatnonzero(mask)
    if len(unique) > limit:
        rank = np.concatenate([np.arange(len(s)) for _, s in parts])
        best = np.full(capacity, np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(best, slots, rank)
        order = np.argsort(best[unique], kind="stable")[:limit]
        unique = np.sort(unique[order])
    table = Candidates({SLOT: unique.astype(np.int64), SOURCES: mask[unique]})
    return table, len(slots) - len(unique)


def members(values: Column, of: Column) -> NDArray[np.bool_]:
    """Say which slots [n] are among other slots [m]: a table look-up; -1 is never a member."""
    if not len(of) or not len(values):
        return np.zeros(len(values), dtype=bool)
    table = np.zeros(int(max(values.max(), of.max())) + 2, dtype=bool)
    table[of] = True
    table[-1] = False  # where -1 looks
    return table[values]
