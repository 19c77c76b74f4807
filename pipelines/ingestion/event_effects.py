"""What ingested events do to the catalog: follows, blocks, mutes, deleted posts, erased people."""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.events import UTC_US, EventType
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA
from features.catalog import Catalog
from features.segments import integers_of, times_of

_BLOCK_KINDS: Final = {
    "block": (EventType.BLOCK, EventType.UNBLOCK),
    "mute": (EventType.MUTE, EventType.UNMUTE),
}


def apply_to_catalog(catalog: Catalog, events: pa.Table) -> None:
    """Bring the catalog to the state after EVENT_SCHEMA rows; the last event of a pair counts."""
    types = integers_of(events, "type")
    follow = _last_of_pairs(events, types, (EventType.FOLLOW, EventType.UNFOLLOW))
    if follow is not None:
        on, off, since = follow
        catalog.remove_follows(off[:, 0], off[:, 1])
        columns = [pa.array(on[:, 0]), pa.array(on[:, 1]), _times(since)]
        catalog.set_follows(pa.table(columns, schema=FOLLOWS_SCHEMA))
    for kind, pair in _BLOCK_KINDS.items():
        block = _last_of_pairs(events, types, pair)
        if block is not None:
            on, off, since = block
            catalog.remove_blocks(off[:, 0], off[:, 1], kind)
            kinds = pa.array([kind] * len(on), pa.string())
            columns = [pa.array(on[:, 0]), pa.array(on[:, 1]), kinds, _times(since)]
            catalog.set_blocks(pa.table(columns, schema=BLOCKS_SCHEMA))
    deleted = events.filter(pa.array(types == EventType.POST_DELETED))
    if deleted.num_rows:
        at_us = int(times_of(deleted, "event_time").max())
        catalog.delete_posts(integers_of(deleted, "post_id"), at_us)
    erased = events.filter(pa.array(types == EventType.PERSON_ERASED))
    if erased.num_rows:
        catalog.erase_people(integers_of(erased, "viewer_id"))


def _last_of_pairs(
    events: pa.Table, types: NDArray[np.int64], on_off: tuple[EventType, EventType]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Give pairs [n, 2] that end switched on, those that end off, and the times of the first."""
    mask = np.isin(types, [int(t) for t in on_off])
    if not mask.any():
        return None
    chosen = events.filter(pa.array(mask))
    times = times_of(chosen, "event_time")
    pairs = np.stack((integers_of(chosen, "viewer_id"), integers_of(chosen, "target_id")), axis=1)
    # Newest first, so that the first of each pair is its last event.
    newest = np.lexsort((np.arange(len(times)), times))[::-1]
    _, first = np.unique(pairs[newest], axis=0, return_index=True)
    last = newest[first]
    is_on = integers_of(chosen, "type")[last] == on_off[0]
    return pairs[last[is_on]], pairs[last[~is_on]], times[last[is_on]]


def _times(times: NDArray[np.int64]) -> pa.Array:
    return pa.array(times, pa.int64()).cast(UTC_US)
