"""What the MovieLens sets share: ratings become clicks and likes, movies become posts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import to_us

LICENCE: Final = "GroupLens: research use, no redistribution"


def created_us(years: Sequence[int | None], first_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each movie's creation [n]: its year's start, but never after its first event."""
    starts = [
        first if year is None else min(to_us(datetime(year, 1, 1, tzinfo=UTC)), first)
        for year, first in zip(years, first_us.tolist(), strict=True)
    ]
    return np.array(starts, dtype=np.int64)


def first_times(
    items: NDArray[np.int64], times: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Give the first time of each item row 0..count-1; the data's first where it has none."""
    first = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, items, times)
    return np.where(first == np.iinfo(np.int64).max, times.min(), first)


def rating_events(
    columns: Mapping[str, pa.Array], ratings: NDArray[np.float64], liked_from: float = 4.0
) -> tuple[dict[str, pa.Array], NDArray[np.int64]]:
    """Give a click for each rating [n] and a like beside it from 4 on, and their source rows."""
    liked = np.flatnonzero(ratings >= liked_from)
    rows = np.concatenate((np.arange(len(ratings)), liked))
    rows.sort(kind="stable")
    is_like = np.r_[False, rows[1:] == rows[:-1]][: len(rows)]
    take = pa.array(rows)
    events = {name: column.take(take) for name, column in columns.items()}
    events["type"] = pa.array(np.where(is_like, "like", "click").tolist(), pa.string())
    events["value"] = pa.array([f"{value:g}" for value in ratings[rows].tolist()], pa.string())
    return events, rows
