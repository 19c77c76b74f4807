"""Log rows as NumPy columns of slots, in the order in which they become known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.ids import UNKNOWN_ID
from features.columns import Columns
from features.slots import Ints, SlotIndex, Slots

EVENT_COLUMNS: Final = (
    "seq", "type", "viewer_id", "post_id", "target_id", "event_time", "known_time",
)  # fmt: skip
"""Columns of the log that state and features read."""


def int_column(table: pa.Table, name: str) -> Ints:
    """Read an id or time column as int64, null as -1."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: Ints = (column.fill_null(UNKNOWN_ID) if column.null_count else column).to_numpy()
    return values


def visible_from(event_us: Ints, known_us: Ints) -> Ints:
    """Give the first query time that may know an event: after it happened, once it was known."""
    return np.maximum(event_us + 1, known_us)


@dataclass(frozen=True, slots=True)
class EventArrays(Columns):
    """Events [E] sorted by the time from which a query may know them, then by place in the log."""

    types: NDArray[np.int8]
    viewers: Slots
    """Slots of people; -1 where unknown, like all slots here."""
    posts: Slots
    targets: Slots
    times_us: Ints
    visible_us: Ints

    @classmethod
    def of(cls, log: pa.Table, people: SlotIndex, posts: SlotIndex) -> "EventArrays":
        """Read rows of LOG_SCHEMA; ids that the indexes lack become -1."""
        times = int_column(log, "event_time")
        visible = visible_from(times, int_column(log, "known_time"))
        order = np.lexsort((int_column(log, "seq"), visible))
        return cls(
            log.column("type").to_numpy()[order],
            people.slots_of(int_column(log, "viewer_id")[order]),
            posts.slots_of(int_column(log, "post_id")[order]),
            people.slots_of(int_column(log, "target_id")[order]),
            times[order],
            visible[order],
        )
